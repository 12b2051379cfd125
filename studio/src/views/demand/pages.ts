/** The positions on a page of a list, from 1: "9–16"; of the last page, "17" or "17–20". Pages are counted from 0. */
export function pageRange(page: number, perPage: number, count: number): string {
  const [first, last] = [page * perPage + 1, Math.min(count, (page + 1) * perPage)];
  return first === last ? String(first) : `${first}–${last}`;
}
