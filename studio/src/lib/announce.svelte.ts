/** Announcements for screen readers, rendered by the Announcer component. */

class Announcements {
  text = $state("");
}

export const announcements = new Announcements();

/** Announce `text` politely; of several in quick succession, only the last is read. */
export function announce(text: string): void {
  announcements.text = text;
}
