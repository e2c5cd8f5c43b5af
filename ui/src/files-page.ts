import "./page.css";
import { MadangFiles } from "./files/element.js";

customElements.define("madang-files", MadangFiles);
