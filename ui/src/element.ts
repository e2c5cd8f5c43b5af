import { MadangCall } from "./call/element.js";
import { sdk } from "./real-sdk.js";

// The script of another site's page: the server is where this file came from. Included twice, the first one stays.
MadangCall.scriptOrigin = new URL(import.meta.url).origin;
MadangCall.prototype.sdk = sdk;
if (!customElements.get("madang-call")) customElements.define("madang-call", MadangCall);

export { MadangCall };
