import "./page.css";
import { MadangHome } from "./home/element.js";

customElements.define("madang-home", MadangHome);
