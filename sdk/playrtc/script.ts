// The classic script that pages load; build.js gives it its name.
export { PlayRTC as default } from "./playrtc.js";
