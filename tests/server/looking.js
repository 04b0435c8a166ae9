// What the tests of the page look at: whether text can be read, and whether things have names.

// Each text with less contrast to what is behind it than WCAG 2.2 asks for at level AA.
function contrast() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const faults = [];
  let looked = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest('option, .hidden, .skip, noscript')) continue;
    const style = getComputedStyle(element);
    const text = element.closest('svg') ? style.fill : style.color;
    const [one, other] = [light(parse(text)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    looked += 1;
    if (ratio < 4.5) faults.push(`${element.tagName} ${element.id} ${ratio.toFixed(2)}: ${element.textContent.slice(0, 30)}`);
  }
  return { looked, faults };
}

// Each thing that a screen reader would not know what to call.
function unnamed() {
  const faults = [];
  for (const element of document.querySelectorAll('button, input, select, [role], dialog, section, table, svg')) {
    if (!element.checkVisibility()) continue;
    const by = element.getAttribute('aria-labelledby');
    const name = (by && by.split(' ').map((id) => document.getElementById(id)?.textContent).join('')) ||
      element.getAttribute('aria-label') || [...(element.labels ?? [])].map((each) => each.textContent).join('') ||
      (['BUTTON', 'SPAN', 'P'].includes(element.tagName) ? element.textContent : '');
    if (element.tagName === 'TABLE') {
      if (!element.closest('[aria-labelledby]')) faults.push('a table without a name');
    } else if (element.getAttribute('role') !== 'search' && !name.trim()) faults.push(element.outerHTML.slice(0, 80));
  }
  const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
  if (new Set(ids).size !== ids.length) faults.push('an id that is there twice');
  if (document.querySelectorAll('h1').length !== 1 || !document.documentElement.lang) faults.push('no title or language');
  return faults;
}
