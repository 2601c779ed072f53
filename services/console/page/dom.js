// Elements from descriptions, changed in place: what an operator has focused, opened or selected stays as it is while
// everything around it is brought up to date. Text becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const described = new WeakMap();

/** Describe an element. `key` keeps it the same one when its place changes; `once` are attributes set only at first. */
export function h(tag, attributes, ...children) {
  const { key, once, ...rest } = attributes ?? {};
  return { tag, key, once: once ?? {}, attributes: rest, children: children.flat(4) };
}

/** Make the children of `parent` what is described; gone ones are removed with all that hung on them. */
export function patch(parent, ...wanted) {
  let place = parent.firstChild;
  for (const each of wanted.flat(4)) {
    if (each === null || each === undefined || each === false) continue;
    if (typeof each !== "object") {
      place = text(parent, place, String(each));
      continue;
    }
    let node = find(place, each);
    if (node === null) {
      node = document.createElementNS(each.tag === "svg" ? SVG : parent.namespaceURI, each.tag);
      for (const [name, value] of Object.entries(each.once)) node.setAttribute(name, value);
      parent.insertBefore(node, place);
    } else if (node === place) {
      place = place.nextSibling;
    } else {
      parent.insertBefore(node, place);
    }
    change(node, each);
  }
  while (place !== null) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function text(parent, place, words) {
  if (place !== null && place.nodeType === Node.TEXT_NODE) {
    if (place.nodeValue !== words) place.nodeValue = words;
    return place.nextSibling;
  }
  parent.insertBefore(document.createTextNode(words), place);
  return place;
}

function find(place, wanted) {
  for (let node = place; node !== null; node = node.nextSibling) {
    const known = described.get(node);
    if (known !== undefined && known.tag === wanted.tag && known.key === wanted.key) return node;
    if (wanted.key === undefined) return null;
  }
  return null;
}

function change(node, wanted) {
  const before = described.get(node)?.attributes ?? {};
  for (const [name, value] of Object.entries(wanted.attributes)) {
    if (name.startsWith("on")) node[name] = value;
    else if (value === false || value === null || value === undefined) node.removeAttribute(name);
    else if (before[name] !== value) node.setAttribute(name, value === true ? "" : value);
  }
  for (const name of Object.keys(before)) {
    if (name in wanted.attributes) continue;
    if (name.startsWith("on")) node[name] = null;
    else node.removeAttribute(name);
  }
  described.set(node, { tag: wanted.tag, key: wanted.key, attributes: wanted.attributes });
  patch(node, wanted.children);
}

const GLYPHS = { good: "✓", warning: "!", bad: "✕", unknown: "?" };
const SAID = { good: "good", warning: "attention", bad: "bad", unknown: "unknown" };

/** A mark that is told apart by shape and sign, not by its colour alone; `said` is for those who do not see it. */
export function mark(level, said) {
  return h("span", { class: "mark", "data-level": level, role: "img", "aria-label": said ?? SAID[level] }, GLYPHS[level]);
}
