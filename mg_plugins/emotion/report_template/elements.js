// Elements, numbers and the records. Text only ever becomes a text node.

const ARMS = ['without', 'with', 'placebo'];
const ARM_NAMES = {
  without: 'without gestures',
  with: 'with gestures',
  placebo: 'exchanged (placebo)',
};
const STATUSES = ['answered', 'refused', 'cut', 'reasoning only', 'tool call', 'unreadable',
  'failed', 'not asked'];
const DASH = '–';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) {
      node.setAttribute(name, value === true ? '' : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false && child !== '') {
      node.append(child);
    }
  }
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

const isNumber = (x) => typeof x === 'number' && Number.isFinite(x);
const count = (x) => (isNumber(x) ? x.toLocaleString('en-US') : DASH);
const percent = (x) => (isNumber(x) ? `${(100 * x).toFixed(1)}%` : DASH);
// No minus sign before a rounded zero.
const decimal = (x) => (isNumber(x) ? (Math.abs(x) < 0.005 ? 0 : x).toFixed(2) : DASH);
const signed = (x) => {
  if (!isNumber(x)) return DASH;
  const text = Math.abs(100 * x).toFixed(1);
  if (Number(text) === 0) return '0.0';
  return (x < 0 ? '−' : '+') + text;
};
const pValue = (p) => (!isNumber(p) ? DASH : p < 0.001 ? '< 0.001' : p.toFixed(3));
const hasInterval = (i) => Boolean(i) && isNumber(i.low) && isNumber(i.high);
const between = (i, format) => `${format(i.low)} to ${format(i.high)}`;
const interval = (i, format) => {
  if (!i || !isNumber(i.value)) return DASH;
  return format(i.value) + (hasInterval(i) ? ` (${between(i, format)})` : '');
};
// The same for a table: value, and its interval in a second, quieter line.
const figures = (i, format) => [
  el('strong', {}, i && isNumber(i.value) ? format(i.value) : DASH),
  hasInterval(i) && el('span', { class: 'soft range' }, between(i, format)),
];
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

const data = JSON.parse(document.getElementById('data').textContent);
const evaluations = data.evaluations;

// Records with their names back; text fields stay numbers of strings until they are shown.
const records = data.records.map((rows, set) =>
  rows.map((row) => {
    const record = { set };
    data.fields.forEach((field, i) => {
      record[field] = row[i];
    });
    for (const field of ['scenario', 'subject', 'arm', 'status', 'state', 'truth']) {
      record[field] = record[field] === null ? '' : data.strings[record[field]];
    }
    return record;
  }),
);
const textOf = (number) => (number === null || number === undefined ? '' : data.strings[number]);

const isSynthetic = (e) => /synthetic/i.test(`${e.source} ${e.name}`);
const judgeOf = (e) => (e.judge && e.judge.name) || 'an unnamed judge';
const isLexicon = (e) => /lexicon/i.test(`${judgeOf(e)} ${(e.judge && e.judge.kind) || ''}`);

function badges(some) {
  return [
    some.some(isSynthetic) &&
      el('span', { class: 'badge synthetic', title: 'Measured on made data' }, 'SYNTHETIC'),
    some.some(isLexicon) &&
      el('span', { class: 'badge lexicon' }, 'lexicon judge – not a language model'),
  ];
}

// A table whose rows become blocks on a narrow screen keeps its roles by naming them.
function table(attributes, caption, head, rows) {
  const cell = (tag, role, scope) => (content) =>
    content instanceof Element && /^t[dh]$/i.test(content.tagName)
      ? content
      : el(tag, { role, scope }, content);
  return el(
    'table',
    { role: 'table', ...attributes },
    caption && el('caption', {}, caption),
    head.length > 0 &&
      el(
        'thead',
        { role: 'rowgroup' },
        el('tr', { role: 'row' }, head.map(cell('th', 'columnheader', 'col'))),
      ),
    el(
      'tbody',
      { role: 'rowgroup' },
      rows.map(([first, ...rest]) =>
        el(
          'tr',
          { role: 'row' },
          cell('th', 'rowheader', 'row')(first),
          rest.map(cell('td', 'cell')),
        ),
      ),
    ),
  );
}
