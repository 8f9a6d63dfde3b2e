// The searchable list of cases, a page at a time. The address carries search and filters.

const PAGE = 20;
const FILTERS = { q: '', set: '', arm: '', truth: '', outcome: '', moved: '' };
const filters = { ...FILTERS };
const MOVED = {
  right: ['good', 'gestures moved it to right'], wrong: ['bad', 'gestures moved it to wrong'],
};
const byCase = new Map();
records.flat().forEach((r) => {
  const key = `${r.set} ${r.scenario}`;
  const c = byCase.get(key) || { set: r.set, id: r.scenario, subject: r.subject, truth: r.truth,
    arms: {} };
  byCase.set(key, c);
  (c.arms[r.arm] = c.arms[r.arm] || []).push(r);
});
const cases = [...byCase.values()];
const right = (of) => (of || []).filter((r) => r.correct).length / ((of || []).length || 1);
for (const c of cases) {
  const change = c.arms.with && c.arms.without ? right(c.arms.with) - right(c.arms.without) : 0;
  c.moved = change > 0 ? 'right' : change < 0 ? 'wrong' : '';
}

function answer(r) {
  const [tone, verdict] = r.status !== 'answered' ? ['bad', r.status]
    : r.correct === null ? ['', r.state || 'answered']
      : r.correct ? ['good', `${r.state}, right`] : ['bad', `${r.state}, wrong`];
  const facts = [isNumber(r.confidence) && `confidence ${percent(r.confidence)}`,
    isNumber(r.grounded) && `evidence ${percent(r.grounded)}`,
    isNumber(r.completeness) && `completeness ${percent(r.completeness)}, depth ${r.depth}`,
    r.prompt_cut && 'the server cut the prompt', r.gestures_of && `gestures of ${r.gestures_of}`];
  const folded = (title, text) => text && el('details', { class: 'prompt' },
    el('summary', {}, title), el('pre', {}, text));
  return el('div', { class: 'answer' }, el('span', { class: `mark ${tone}` }, verdict),
    el('span', { class: 'soft' }, ` ${facts.filter(Boolean).join(', ')}`),
    r.text && el('p', { class: 'text' }, r.text),
    r.cited && r.cited.length > 0 && el('p', {}, 'cites ',
      r.cited.map((segment) => el('span', { class: 'mark' }, segment))),
    folded('thoughts', r.thoughts), folded('prompt', `${r.system}\n\n${r.user}`),
    folded('reply', r.reply));
}

function column(c, arm) {
  const of = c.arms[arm];
  const rest = of.slice(1);
  return el('div', { class: `arm ${arm}` },
    el('h4', {}, NAMES[arm], el('span', { class: 'soft' },
      of.some((r) => r.correct !== null) && ` ${of.filter((r) => r.correct).length} of `
        + `${of.length} right`)),
    answer(of[0]), rest.length > 0 && el('details', {},
      el('summary', {}, plural(rest.length, 'more answer', 'more answers')), rest.map(answer)));
}

function drawCase(c) {
  const [tone, moved] = MOVED[c.moved] || [];
  const body = el('div', { class: 'arms' });
  const draw = () => {
    if (!body.firstChild) body.append(...ARMS.filter((arm) => c.arms[arm]).map((a) => column(c, a)));
  };
  const shown = ARMS.filter((arm) => c.arms[arm] && c.arms[arm].some((r) => r.correct !== null))
    .map((arm) => `${arm} ${percent(right(c.arms[arm]))}`);
  const node = el('details', { class: 'case card', ontoggle: draw }, el('summary', {},
    el('strong', {}, c.id), ` subject ${c.subject} `, c.truth && `true state: ${c.truth} `,
    sets.length > 1 && `${sets[c.set].name} `, shown.join(', '), ' ',
    moved && el('span', { class: `mark ${tone}` }, moved)), body);
  if (filters.q) { node.open = true; draw(); }
  return node;
}

function selected() {
  const words = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
  const hit = (r) => {
    const text = [r.user, r.reply, r.text, r.thoughts, r.scenario, r.subject].join(' ').toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const came = (r) => !filters.outcome || r.status === filters.outcome
    || (filters.outcome === 'right' && r.correct)
    || (filters.outcome === 'wrong' && r.status === 'answered' && r.correct === false);
  return cases.filter((c) => (!filters.set || String(c.set) === filters.set)
    && (!filters.truth || c.truth === filters.truth) && (!filters.moved || c.moved === filters.moved)
    && Object.values(c.arms).flat().some((r) =>
      (!filters.arm || r.arm === filters.arm) && came(r) && hit(r)));
}

const list = el('div', {});
const more = el('button', { type: 'button' });
const found = el('p', { role: 'status', class: 'soft' });
const form = el('form', { role: 'search' });
let some = [];

function grow() {
  const from = list.children.length;
  list.append(...some.slice(from, from + PAGE).map(drawCase));
  const left = some.length - list.children.length;
  more.textContent = `Show ${Math.min(PAGE, left)} more of ${plural(left, 'case', 'cases')}`;
  more.hidden = left === 0;
}

function update() {
  some = selected();
  found.textContent = some.length === cases.length ? plural(some.length, 'case', 'cases')
    : `${some.length} of ${plural(cases.length, 'case', 'cases')}`;
  list.replaceChildren();
  grow();
}

function readAddress() {
  if (!location.hash.includes('=')) return;
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(FILTERS)) {
    filters[key] = given.get(key) || '';
    const field = form.querySelector(`[data-key=${key}]`);
    if (field) field.value = filters[key];
  }
}

const unique = (key) => [...new Set(records.flat().map((r) => r[key]).filter(Boolean))].sort();
const choice = (key, label, options) => el('label', {}, label, el('select', { 'data-key': key },
  el('option', { value: '' }, 'any'), options.map(([value, text]) => el('option', { value }, text))));
form.append(
  el('label', {}, 'Search', el('input', { type: 'search', 'data-key': 'q', autocomplete: 'off' })),
  ...(sets.length > 1 ? [choice('set', 'Set', sets.map((e, i) => [String(i), e.name]))] : []),
  choice('arm', 'In arm', ARMS.map((arm) => [arm, NAMES[arm]])),
  choice('truth', 'True state', unique('truth').map((t) => [t, t])),
  choice('outcome', 'Some answer is',
    [...new Set(['right', 'wrong', ...unique('status')])].map((s) => [s, s])),
  choice('moved', 'Gestures moved it', [['right', 'to right'], ['wrong', 'to wrong']]));
let timer;
form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('input', (event) => {
  filters[event.target.dataset.key] = event.target.value;
  clearTimeout(timer);
  timer = setTimeout(() => {
    const given = Object.entries(filters).filter(([, value]) => value);
    try {
      history.replaceState(null, '', `#${new URLSearchParams(given)}`);
    } catch {
      // A page inside another one has no address of its own to keep them in.
    }
    update();
  }, 120);
});
more.addEventListener('click', grow);
document.getElementById('cases').append(el('h2', { id: 'cases-title' }, 'Cases'), form, found, list,
  more);
readAddress();
update();
window.addEventListener('hashchange', () => { readAddress(); update(); });
