/** Entry point of the page. */
import "./styles/tokens.css";
import "./styles/base.css";

import { mount } from "svelte";

import App from "./App.svelte";
import { boot, startModel } from "./lib/boot";
import { isSingleFile } from "./lib/bundle";
import { messageOf } from "./lib/message";

const target = document.getElementById("app");

async function main(element: HTMLElement): Promise<void> {
  try {
    const studio = await boot();
    startModel(studio); // before mounting, so that files load meanwhile
    element.replaceChildren();
    mount(App, { target: element, props: { studio } });
  } catch (error) {
    element.replaceChildren(errorPage(messageOf(error)));
  }
}

/** The page shown if the studio cannot be opened: the reason and what to do. */
function errorPage(reason: string): HTMLElement {
  const box = document.createElement("main");
  box.className = "opening";
  const title = document.createElement("h1");
  title.textContent = "The studio could not be opened";
  const text = document.createElement("p");
  text.textContent = `${reason}.`.replace(/([.?!])\.$/, "$1");
  const advice = document.createElement("p");
  advice.textContent = isSingleFile()
    ? "The file may be incomplete. Download it again, or export it again with vaelab export RUN --out page.html."
    : "Run vaelab studio RUN in a terminal, where RUN is the folder of your run, and open the address that it prints.";
  box.setAttribute("role", "alert");
  box.append(title, text, advice);
  return box;
}

if (target !== null) void main(target);
