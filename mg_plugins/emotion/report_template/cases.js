// Failures, and the searchable list of cases. Both draw a page of rows at a time.

const PAGE = 50;
const FIRST_ANSWERS = 2;

const byCase = new Map();
records.flat().forEach((r) => {
  const key = `${r.set} ${r.scenario}`;
  if (!byCase.has(key)) {
    byCase.set(key, {
      set: r.set, scenario: r.scenario, subject: r.subject, truth: r.truth, arms: {},
    });
  }
  const arms = byCase.get(key).arms;
  (arms[r.arm] = arms[r.arm] || []).push(r);
});
const cases = [...byCase.values()];
for (const c of cases) {
  c.score = {};
  c.most = {};
  for (const arm of Object.keys(c.arms)) {
    const told = c.arms[arm].filter((r) => r.correct !== null && r.status !== 'not asked');
    c.score[arm] = told.length ? told.filter((r) => r.correct).length / told.length : null;
    c.most[arm] = favourite(c.arms[arm]);
  }
  const [before, after] = [c.score.without, c.score.with];
  c.moved = isNumber(before) && isNumber(after) && before !== after
    ? (after > before ? 'right' : 'wrong')
    : c.most.without !== undefined && c.most.with !== undefined && c.most.with !== c.most.without
      ? 'other' : '';
}

function favourite(of) {
  const votes = {};
  for (const r of of) if (r.state) votes[r.state] = (votes[r.state] || 0) + 1;
  return Object.keys(votes).sort((a, b) => votes[b] - votes[a])[0];
}

const FILTERS = {
  q: '', set: '', arm: '', truth: '', outcome: '', moved: '',
};
const filters = { ...FILTERS };

function readFragment() {
  const hash = location.hash.slice(1);
  if (!hash.includes('=')) return false;
  const given = new URLSearchParams(hash);
  for (const key of Object.keys(FILTERS)) filters[key] = given.get(key) || '';
  return true;
}

function writeFragment() {
  const set = Object.entries(filters).filter(([, value]) => value);
  try {
    history.replaceState(null, '', `#${new URLSearchParams(set)}`);
  } catch {
    // A page without an address of its own (inside another page) has no fragment to keep.
  }
}

// Every word must occur in what was asked and answered; strings are searched once each.
function matching(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.map((word) => data.strings.map((s) => s.toLowerCase().includes(word)));
  return (r, number) =>
    found.every((hits) => hits[number.user] || hits[number.reply] || hits[number.text]
      || hits[number.scenario] || hits[number.subject] || hits[number.truth] || hits[number.state]);
}

function hasOutcome(r, outcome) {
  if (!outcome) return true;
  if (outcome === 'right') return r.correct === true;
  if (outcome === 'wrong') return r.status === 'answered' && r.correct === false;
  return r.status === outcome;
}

// The numbers of a record's strings, by field, as they came.
const numbers = new Map();
data.records.forEach((rows, set) => rows.forEach((row, i) => {
  const entry = {};
  for (let k = 0; k < data.texts; k += 1) entry[data.fields[k]] = row[k] === null ? -1 : row[k];
  numbers.set(records[set][i], entry);
}));

function selected() {
  const matches = matching(filters.q);
  return cases.filter((c) =>
    (!filters.set || String(c.set) === filters.set)
    && (!filters.truth || c.truth === filters.truth)
    && (!filters.moved || (filters.moved === 'any' ? c.moved : c.moved === filters.moved))
    && Object.entries(c.arms).some(([arm, of]) =>
      (!filters.arm || arm === filters.arm)
      && of.some((r) => hasOutcome(r, filters.outcome) && matches(r, numbers.get(r)))));
}

function prompt(r) {
  const part = (title, text) => text && [el('h5', {}, title), el('pre', { tabindex: 0 }, text)];
  const details = el('details', { class: 'prompt' }, el('summary', {}, 'Prompt and reply'));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) {
      fill(details, {}, [
        part('System', textOf(r.system)), part('User', textOf(r.user)),
        part('Reply', textOf(r.reply)),
      ]);
    }
  });
  return details;
}

function answer(r) {
  const where = [
    r.options && r.options.length > 1 && `order ${r.rotation + 1}`,
    r.arm === 'placebo' && `exchange ${r.draw + 1}`,
    r.sample > 0 && `sample ${r.sample + 1}`,
    r.gestures_of !== null && `gestures of ${textOf(r.gestures_of)}`,
  ].filter(Boolean).join(', ');
  const mark = r.status !== 'answered' ? r.status
    : r.correct === true ? '✓ right' : r.correct === false ? '✗ wrong' : '';
  const tone = r.correct === true ? 'good' : r.status !== 'answered' || r.correct === false
    ? 'bad' : 'soft';
  return el('li', { class: 'answer' },
    el('p', {},
      mark && el('span', { class: `mark ${tone}` }, mark), ' ',
      r.state && el('strong', {}, r.state),
      isNumber(r.confidence) && el('span', { class: 'soft' }, ` sure at ${percent(r.confidence)}`),
      isNumber(r.completeness) && el('span', { class: 'soft' },
        ` completeness ${decimal(r.completeness)}, depth ${decimal(r.depth)}`)),
    where && el('p', { class: 'soft small' }, where),
    textOf(r.text) && el('p', { class: 'text' }, textOf(r.text)),
    prompt(r));
}

function column(c, arm) {
  const of = c.arms[arm] || [];
  const rest = of.slice(FIRST_ANSWERS);
  const list = el('ul', { class: 'answers' }, of.slice(0, FIRST_ANSWERS).map(answer));
  return el('section', { class: `arm ${arm}` },
    el('h4', {}, ARM_NAMES[arm] || arm,
      isNumber(c.score[arm]) &&
        el('span', { class: 'soft' }, ` ${percent(c.score[arm])} right`)),
    of.length ? list : el('p', { class: 'soft' }, 'not asked'),
    rest.length > 0 && el('button', {
      type: 'button',
      class: 'quiet',
      onclick: (event) => {
        list.append(...rest.map(answer));
        event.target.remove();
      },
    }, `Show ${plural(rest.length, 'more answer', 'more answers')}`));
}

const MOVED = {
  right: ['good', 'gestures moved it to right'],
  wrong: ['bad', 'gestures moved it to wrong'],
  other: ['soft', 'gestures changed the choice'],
};

function drawCase(c) {
  const shown = [...ARMS, ...Object.keys(c.arms).filter((arm) => !ARMS.includes(arm))]
    .filter((arm) => c.arms[arm] || has(evaluations[c.set], arm));
  const [tone, moved] = MOVED[c.moved] || [];
  const card = el('article', { class: 'case card' },
    el('header', {},
      el('h3', {}, c.scenario),
      el('p', { class: 'soft' }, [
        `subject ${c.subject}`, c.truth && `true state: ${c.truth}`,
        evaluations.length > 1 && evaluations[c.set].name,
      ].filter(Boolean).join(' · ')),
      moved && el('span', { class: `mark ${tone}` }, moved),
      el('button', {
        type: 'button',
        class: 'quiet',
        onclick: () => {
          const all = [...card.querySelectorAll('details.prompt')];
          const wanted = !all.every((d) => d.open);
          all.forEach((d) => { d.open = wanted; });
        },
      }, 'Show or hide prompts')),
    el('div', { class: 'arms' }, shown.map((arm) => column(c, arm))));
  return card;
}

// A list that grows by pages; `draw` makes one entry.
function pages(entries, draw, name) {
  const list = el('div', {});
  const button = el('button', { type: 'button' });
  const more = () => {
    const from = list.children.length;
    list.append(...entries.slice(from, from + PAGE).map(draw));
    const left = entries.length - list.children.length;
    button.textContent = `Show ${Math.min(PAGE, left)} more of ${count(left)} ${name}`;
    button.hidden = left === 0;
  };
  button.addEventListener('click', () => {
    const next = list.children.length;
    more();
    const target = list.children[next];
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  });
  more();
  return [list, button];
}

function choice(key, label, options) {
  const select = el('select', { id: `filter-${key}`, 'data-key': key },
    options.map(([value, text]) => el('option', { value }, text)));
  return el('label', { for: `filter-${key}` }, el('span', {}, label), select);
}

const list = el('div', { id: 'list' });
const found = el('p', { id: 'found', role: 'status' });
const form = el('form', { class: 'filters', role: 'search', 'aria-label': 'Cases' });

function update() {
  const some = selected();
  found.textContent = some.length === cases.length
    ? plural(cases.length, 'case', 'cases')
    : `${count(some.length)} of ${plural(cases.length, 'case', 'cases')}`;
  list.replaceChildren(...pages(some, drawCase, 'cases'));
}

function showFilters() {
  for (const field of form.querySelectorAll('[data-key]')) {
    const wanted = filters[field.dataset.key];
    field.value = wanted;
    if (field.value !== wanted) filters[field.dataset.key] = field.value = '';
  }
}

function search() {
  const truths = [...new Set(cases.map((c) => c.truth).filter(Boolean))].sort();
  const arms = ARMS.filter((arm) => cases.some((c) => c.arms[arm]));
  form.append(
    el('label', { for: 'filter-q', class: 'wide' }, el('span', {}, 'Search prompts and answers'),
      el('input', { id: 'filter-q', type: 'search', 'data-key': 'q', autocomplete: 'off' })),
    ...(evaluations.length > 1 ? [choice('set', 'Set',
      [['', 'all'], ...evaluations.map((e, i) => [String(i), e.name || `set ${i + 1}`])])] : []),
    choice('arm', 'In arm', [['', 'any'], ...arms.map((arm) => [arm, ARM_NAMES[arm]])]),
    choice('truth', 'True state', [['', 'any'], ...truths.map((t) => [t, t])]),
    choice('outcome', 'Some answer is', [['', 'any'], ['right', 'right'], ['wrong', 'wrong'],
      ...STATUSES.map((s) => [s, s])]),
    choice('moved', 'Gestures moved it', [['', 'or not'], ['any', 'anywhere'],
      ['right', 'to right'], ['wrong', 'to wrong'], ['other', 'otherwise']]),
  );
  let timer;
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('input', (event) => {
    filters[event.target.dataset.key] = event.target.value;
    clearTimeout(timer);
    timer = setTimeout(() => { writeFragment(); update(); }, 120);
  });
  document.getElementById('cases').append(
    el('h2', { id: 'cases-title', tabindex: -1 }, 'Cases'), form, found, list);
}

function showOnly(wanted) {
  Object.assign(filters, FILTERS, wanted);
  showFilters();
  writeFragment();
  update();
  const title = document.getElementById('cases-title');
  title.scrollIntoView();
  title.focus({ preventScroll: true });
}

function failures() {
  const failed = records.flat().filter((r) => r.status !== 'answered');
  if (!failed.length) return;
  const draw = (r) => el('div', { class: 'failure' },
    el('span', { class: 'mark bad' }, r.status), ' ',
    el('button', { type: 'button', class: 'link',
      onclick: () => showOnly({ q: r.scenario, set: evaluations.length > 1 ? String(r.set) : '' }) },
    r.scenario),
    el('span', { class: 'soft' }, ` ${ARM_NAMES[r.arm] || r.arm}`
      + (evaluations.length > 1 ? `, ${evaluations[r.set].name}` : '')),
    (textOf(r.text) || textOf(r.reply)) &&
      el('p', { class: 'text' }, (textOf(r.text) || textOf(r.reply)).slice(0, 300)));
  const section = document.getElementById('failures');
  section.hidden = false;
  section.append(
    el('h2', { id: 'failures-title' }, 'Questions without an answer'),
    el('details', {},
      el('summary', {}, plural(failed.length, 'question', 'questions')),
      pages(failed, draw, 'questions')));
}

failures();
search();
const asked = readFragment();
showFilters();
update();
window.addEventListener('hashchange', () => {
  if (readFragment()) { showFilters(); update(); }
});
if (asked) document.getElementById('cases-title').scrollIntoView();
