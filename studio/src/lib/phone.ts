/** Whether the page is on a phone or a tablet without a keyboard, where it mentions neither keys nor dropping files. */
import { MediaQuery } from "svelte/reactivity";

export const phone = new MediaQuery("(max-width: 719px), (hover: none) and (pointer: coarse)");
