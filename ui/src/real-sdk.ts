import { join, levelMeter, media, record, snapshot } from "madang";
import type { Sdk } from "./sdk.js";

/** The SDK as the UI sees it. */
export const sdk: Sdk = { join, media, levelMeter, record, snapshot } as Sdk;
