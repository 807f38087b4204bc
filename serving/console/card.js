// The model card's Markdown as elements: headings, paragraphs, quotes, lists, tables, bold, code, pictures
// that the card itself holds. All else stays text.

import { el } from "/console/dom.js";

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/).map(part => {
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return el("strong", {}, part.slice(2, -2));
    const link = /^\[(.+)\]\((.+)\)$/.exec(part);
    return link ? `${link[1]} (${link[2]})` : part.replace(/\\([\\`*_{}[\]()#+\-.!|<>])/g, "$1");
  });
}

// A line such as `[dependence_1]: data:image/svg+xml;base64,...`: an image shows it without running what is in it.
const DEFINED = /^\[(\w+)\]: (data:image\/(?:svg\+xml|png);base64,[A-Za-z0-9+/=]+)$/;
const PICTURE = /^!\[([^\]]*)\]\[(\w+)\]$/;

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map(cell => cell.trim().replaceAll("\\|", "|"));
}

function table(lines) {
  const [head, , ...rows] = lines.map(cells);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": head.join(", ") || "table" },
    el("table", {}, el("thead", {}, el("tr", {}, head.map(cell => el("th", { scope: "col" }, inline(cell))))),
      el("tbody", {}, rows.map(row => el("tr", {}, row.map(cell => el("td", {}, inline(cell))))))));
}

export function card(text) {
  const found = [];
  const pictures = new Map();
  const lines = text.split("\n").filter(line => {
    const defined = DEFINED.exec(line);
    if (defined) pictures.set(defined[1], defined[2]);
    return !defined;
  });
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const take = test => {
      const block = [];
      while (i < lines.length && test(lines[i])) block.push(lines[i++]);
      return block;
    };
    const heading = /^(#{1,6}) (.*)$/.exec(line);
    const picture = PICTURE.exec(line);
    if (!line.trim()) i++;
    else if (picture && pictures.has(picture[2])) {
      found.push(el("img", { src: pictures.get(picture[2]), alt: picture[1] }));
      i++;
    }
    else if (heading) {
      found.push(el(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
      i++;
    } else if (line.startsWith(">")) {
      found.push(el("blockquote", {}, inline(take(each => each.startsWith(">")).map(each => each.replace(/^> ?/, "")).join(" "))));
    } else if (line.startsWith("|")) found.push(table(take(each => each.startsWith("|"))));
    else if (/^\s*[-*] /.test(line)) {
      const items = [];
      for (const each of take(one => /^\s*[-*] /.test(one) || /^\s+\S/.test(one))) {
        if (/^\s*[-*] /.test(each)) items.push(each.replace(/^\s*[-*] /, ""));
        else items.push(`${items.pop()} ${each.trim()}`);
      }
      found.push(el("ul", {}, items.map(item => el("li", {}, inline(item)))));
    } else {
      found.push(el("p", {}, inline(take(each => each.trim() && !/^(#|>|\||\s*[-*] |!\[)/.test(each)).join(" ") || lines[i++])));
    }
  }
  return found;
}
