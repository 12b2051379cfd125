/** What a screen reader is told: set here, spoken by the Announcer component. */

class Announcements {
  text = $state("");
}

export const announcements = new Announcements();

/** Says `text` politely; of several in a hurry the last is said. */
export function announce(text: string): void {
  announcements.text = text;
}
