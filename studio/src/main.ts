/** Where the page starts. */
import "./styles/tokens.css";
import "./styles/base.css";

import { mount } from "svelte";

import App from "./App.svelte";
import { boot, enliven, said } from "./lib/boot";
import { isSingleFile } from "./lib/bundle";

const target = document.getElementById("app");

async function main(element: HTMLElement): Promise<void> {
  try {
    const studio = await boot();
    enliven(studio); // before the page is made, so that bytes come while it is
    element.replaceChildren();
    mount(App, { target: element, props: { studio } });
  } catch (error) {
    element.replaceChildren(apology(said(error)));
  }
}

/** Never a blank page: what went wrong and what to do. */
function apology(reason: string): HTMLElement {
  const box = document.createElement("main");
  box.className = "opening";
  const title = document.createElement("h1");
  title.textContent = "The studio could not be opened";
  const text = document.createElement("p");
  text.textContent = `${reason}.`.replace(/([.?!])\.$/, "$1");
  const advice = document.createElement("p");
  advice.textContent = isSingleFile()
    ? "The file may have been cut short on its way: get it again, or write it again with vaelab export RUN --out page.html."
    : "In the terminal, type vaelab studio RUN with the folder of your run, and open the address that it prints.";
  box.setAttribute("role", "alert");
  box.append(title, text, advice);
  return box;
}

if (target !== null) void main(target);
