// Elements, numbers, and each set's findings and figures. Text only ever becomes a text node.

const ARMS = ['without', 'with', 'placebo'];
const NAMES = { without: 'without gestures', with: 'with gestures', placebo: 'exchanged (placebo)' };
const data = JSON.parse(document.getElementById('data').textContent);
const sets = data.evaluations;
const records = data.records.map((rows, set) => rows.map((row) => {
  const record = { set };
  data.fields.forEach((field, i) => {
    const text = i < data.texts;
    record[field] = text ? (row[i] === null ? '' : data.strings[row[i]]) : row[i];
  });
  return record;
}));

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

const isNumber = (x) => typeof x === 'number' && Number.isFinite(x);
const percent = (x) => (isNumber(x) ? `${(100 * x).toFixed(1)}%` : '–');
const decimal = (x) => (isNumber(x) ? x.toFixed(2) : '–');
const signed = (x) => {
  const text = Math.abs(100 * x).toFixed(1);
  return Number(text) === 0 ? '0.0' : (x < 0 ? '−' : '+') + text;
};
const plural = (n, one, many) => `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;
const hasInterval = (i) => isNumber(i.low) && isNumber(i.high);
const interval = (i, format) =>
  format(i.value) + (hasInterval(i) ? ` [${format(i.low)}, ${format(i.high)}]` : '');
const isSynthetic = (e) => /synthetic/i.test(`${e.source} ${e.name}`);
const isLexicon = (e) => e.judge.kind === 'lexicon';

const badges = (some) => [
  some.some(isSynthetic) && el('span', { class: 'badge warn' }, 'SYNTHETIC'),
  some.some(isLexicon) && el('span', { class: 'badge' }, 'lexicon judge, not a language model'),
];

// One row a figure: name, a dot with its interval as wide as the card, and the number.
function row(name, figure, range, kind, format, reference) {
  const at = (x) => `${(100 * (Math.min(Math.max(x, range[0]), range[1]) - range[0]))
    / (range[1] - range[0])}%`;
  const line = (x1, x2, y1, y2, style) => svg('line', { class: style, x1, x2, y1, y2 });
  return el('div', { class: 'row' }, el('span', {}, name),
    svg('svg', { role: 'img', 'aria-label': `${name}: ${interval(figure, format)}` },
      line(0, '100%', 27, 27, 'rule'),
      isNumber(reference) && line(at(reference), at(reference), 0, 27, 'reference'),
      hasInterval(figure) && line(at(figure.low), at(figure.high), 13, 13, `whisker ${kind}`),
      svg('circle', { class: `dot ${kind}`, cx: at(figure.value), cy: 13, r: 6 })),
    el('span', { class: 'number' }, interval(figure, format)));
}

function card(title, note, rows) {
  const shown = rows.filter(Boolean);
  return shown.length > 0 && el('section', { class: 'card' }, el('h3', {}, title),
    note && el('p', { class: 'soft' }, note), shown);
}

const known = (figure) => figure && isNumber(figure.value);
const arms = (e) => ARMS.filter((arm) => e.arms[arm]);

function figuresOf(e, of) {
  const shown = of.map((r) => (r.options || []).length).filter((n) => n > 1);
  const chance = shown.length ? shown.reduce((sum, n) => sum + 1 / n, 0) / shown.length : null;
  const share = (key, kind) => arms(e).filter((arm) => known(e.arms[arm][key])).map((arm) =>
    row(NAMES[arm], e.arms[arm][key], [0, 1], arm, percent, kind));
  const gains = Object.entries(e.comparisons).filter(([, c]) => known(c.gain));
  const wide = Math.max(0.1, ...gains.flatMap(([, c]) =>
    [c.gain.value, c.gain.low, c.gain.high].filter(isNumber).map(Math.abs)));
  const open = ['completeness', 'depth', 'evidence'].flatMap((key) => arms(e)
    .filter((arm) => e.open && e.open[arm] && known(e.open[arm][key]))
    .map((arm) => row(`${key}, ${NAMES[arm]}`, e.open[arm][key], [0, key === 'depth' ? 4 : 1],
      arm, key === 'depth' ? decimal : percent)));
  const evidence = share('evidence');
  const moved = e.gestures.filter((g) => g.to_right + g.to_wrong > 0);
  const most = Math.max(1, ...moved.map((g) => Math.max(g.to_right, g.to_wrong)));
  const bar = (n, style) =>
    svg('rect', { class: style, x: style === 'good' ? '50%' : `${50 - (50 * n) / most}%`, y: 6,
      width: `${(50 * n) / most}%`, height: 14 });
  return el('div', { class: 'cards' },
    card('Accuracy', isNumber(chance) && `Dotted: chance, ${percent(chance)}. A question without an `
      + 'answer counts as not correct.', [...share('accuracy', chance),
      ...Object.entries(e.baselines).map(([name, b]) =>
        row(name, b.accuracy, [0, 1], 'baseline', percent, chance))]),
    card('Gains', 'Points of accuracy, paired; dotted: none.', gains.map(([name, c]) =>
      row(`${name.replace('-', '−')} (${c.mcnemar.b} : ${c.mcnemar.c}, p ${decimal(c.mcnemar.p)})`,
        c.gain, [-wide, wide], name.split(' ')[0], signed, 0))),
    card('Evidence', 'How far what an answer cites stands in its own scenario, blind to the arm; '
      + 'without gestures only words can be cited.', e.open_ended ? [] : evidence),
    card('Open-ended answers', e.rubric_judge && `Scored by: ${e.rubric_judge}.`, open),
    card('Confidence', 'Mean confidence against accuracy of the answers that gave one.',
      arms(e).filter((arm) => isNumber(e.arms[arm].ece)).map((arm) => el('p', {},
        `${NAMES[arm]}: mean ${percent(e.arms[arm].mean_confidence)}, calibration error `
        + `${decimal(e.arms[arm].ece)}, Brier score ${decimal(e.arms[arm].brier)}`))),
    e.gestures.length > 0 && card('Gestures where answers moved', moved.length
      ? 'Scenarios with each gesture in which seeing the timeline moved the choice to wrong (left) '
        + 'or right (right), and in how many an answer cites it.'
      : 'Seeing the timeline moved no choice.', moved.length === 0 ? [' '] : moved.slice(0, 12)
      .map((g) => el('div', { class: 'row' }, el('span', {}, g.name),
        svg('svg', { role: 'img',
          'aria-label': `${g.name}: to wrong ${g.to_wrong}, to right ${g.to_right}` },
        bar(g.to_wrong, 'bad'), bar(g.to_right, 'good'),
        svg('line', { class: 'rule', x1: '50%', x2: '50%', y1: 0, y2: 27 })),
        el('span', { class: 'number' },
          `−${g.to_wrong} +${g.to_right} of ${g.scenarios}`
          + (g.cited ? `, cited in ${g.cited}` : ''))))));
}

function drawSet(e, i) {
  const facts = [
    plural(e.scenarios, 'scenario', 'scenarios'), plural(e.subjects, 'subject', 'subjects'),
    ...(e.origin || []).map((origin) => `gestures ${origin}`), `judge: ${e.judge.name}`,
    e.calls && plural(e.calls, 'request', 'requests'),
    e.total_tokens && `${plural(e.total_tokens, 'token', 'tokens')} over all runs`,
    `seed ${e.seed}`,
  ].filter(Boolean);
  return el('section', { id: `set-${i}` }, el('h2', {}, e.name), el('p', {}, badges([e])),
    e.stopped && el('p', { class: 'warn' }, `Stopped early: ${e.stopped}`),
    el('ul', { class: 'findings' }, (e.findings || []).map((text) => el('li', {}, text))),
    el('p', { class: 'soft' }, facts.join(' · ')), figuresOf(e, records[i]),
    el('details', { class: 'soft' }, el('summary', {}, 'Judge and notes'),
      el('ul', {}, Object.entries(e.judge).map(([key, value]) => el('li', {},
        `${key}: ${typeof value === 'object' ? JSON.stringify(value) : value}`)),
      (e.notes || []).map((note) => el('li', {}, note)))));
}

document.getElementById('top').append(
  el('h1', {}, 'Emotion understanding, with and without micro-gestures'),
  el('p', { class: 'soft' }, 'Each scenario is judged without its gestures, with them, and with '
    + 'those of another scenario (placebo). In brackets: 95% intervals, clustered by subject.'),
  ...(sets.length > 1 ? [el('nav', {}, sets.map((e, i) =>
    el('a', { href: `#set-${i}` }, e.name)))] : []));
document.getElementById('sets').append(...sets.map(drawSet));
