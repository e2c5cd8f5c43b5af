// The classic script that pages load: `module.exports` where there is one, and otherwise `window.PlayRTC`.
import { PlayRTC } from "./playrtc.js";

declare const module: { exports: unknown } | undefined;

if (typeof module === "object" && module.exports) module.exports = PlayRTC;
else Object.assign(globalThis, { PlayRTC });
