// The header and the figures of each evaluated set.

const has = (e, arm) => Boolean(e.arms && e.arms[arm]);
const armsOf = (e) => ARMS.filter((arm) => has(e, arm));

function header() {
  const judges = [...new Set(evaluations.map(judgeOf))];
  const scenarios = evaluations.reduce((sum, e) => sum + (e.scenarios || 0), 0);
  document.getElementById('top').append(
    el('h1', {}, 'Emotion understanding, with and without micro-gestures'),
    el('p', { class: 'lead' },
      `${plural(scenarios, 'scenario', 'scenarios')} in ${plural(evaluations.length, 'set', 'sets')}. `
      + `Judge: ${judges.join(', ')}.`),
    el('p', { class: 'badges' }, badges(evaluations)),
    el('p', { class: 'soft' },
      'Each scenario is judged three times: without its gestures, with them, and with the gestures '
      + 'of another scenario in their place (the placebo). Gestures that say something gain over '
      + 'both: a longer prompt alone may raise the placebo, too, and somebody else’s gestures may '
      + 'mislead. Bars are 95% intervals, drawn by subject. Nothing in this page loads from '
      + 'a network.'),
    // Element.append would write `false` as text.
    ...(evaluations.length > 1 ? [
      el('nav', { 'aria-label': 'Sets' },
        el('ul', {}, evaluations.map((e, i) =>
          el('li', {}, el('a', { href: `#set-${i}` }, e.name || `set ${i + 1}`))))),
    ] : []),
  );
}

function verdict(e) {
  const gain = (key) => e.comparisons && e.comparisons[key] && e.comparisons[key].gain;
  const own = gain('with - without');
  if (!own || !isNumber(own.value)) return null;
  const says = (i) =>
    !hasInterval(i) ? 'no interval'
      : i.low > 0 ? 'a gain beyond chance'
      : i.high < 0 ? 'a loss beyond chance' : 'the interval contains 0';
  const sentence = (what, i) =>
    el('p', {}, `${what} `, el('strong', {}, `${signed(i.value)} points`),
      hasInterval(i) && ` (${signed(i.low)} to ${signed(i.high)})`, `, ${says(i)}.`);
  const placebo = gain('with - placebo');
  return el('div', { class: 'verdict' },
    sentence('Showing the gestures changes accuracy by', own),
    placebo && isNumber(placebo.value) &&
      sentence('Against exchanged gestures, they change it by', placebo));
}

function facts(e) {
  const parts = [
    plural(e.scenarios, 'scenario', 'scenarios'),
    plural(e.subjects, 'subject', 'subjects'),
    `states: ${(e.states || []).join(', ')}`,
    e.open_ended && 'open-ended',
    isNumber(e.calls) && plural(e.calls, 'call', 'calls'),
    e.cached ? `${count(e.cached)} from the cache` : '',
    e.tokens ? plural(e.tokens, 'token', 'tokens') : '',
    isNumber(e.seconds) && `${e.seconds < 10 ? e.seconds.toFixed(1) : Math.round(e.seconds)} s`,
    `seed ${e.seed}`,
  ].filter(Boolean);
  const identity = Object.entries(e.judge || {}).filter(([key]) => key !== 'name');
  const show = (v) => (typeof v === 'object' ? JSON.stringify(v) : String(v));
  return [
    el('p', { class: 'soft' }, parts.join(' · ')),
    identity.length > 0 &&
      el('details', { class: 'identity' },
        el('summary', {}, `Judge: ${judgeOf(e)}`),
        el('dl', {}, identity.map(([k, v]) => [el('dt', {}, k), el('dd', {}, show(v))]))),
    e.stopped && el('p', { class: 'notice' }, `Stopped early: ${e.stopped}`),
    e.notes && e.notes.length > 0 &&
      el('ul', { class: 'notes' }, e.notes.map((note) => el('li', {}, note))),
  ];
}

function card(title, note, ...content) {
  if (!content.flat().some(Boolean)) return null;
  return el('section', { class: 'card' },
    el('h3', {}, title), note && el('p', { class: 'soft' }, note), content);
}

// Options differ between sets of several domains, so chance is the mean of one in so many.
function chance(e, of) {
  if (e.open_ended) return null;
  const shown = of.map((r) => (r.options || []).length).filter((n) => n > 1);
  if (!shown.length) return e.states && e.states.length ? 1 / e.states.length : null;
  return shown.reduce((sum, n) => sum + 1 / n, 0) / shown.length;
}

function accuracy(e, of) {
  const rows = armsOf(e).map((arm) => ({
    name: ARM_NAMES[arm], value: e.arms[arm].accuracy, kind: arm,
  }));
  for (const [name, b] of Object.entries(e.baselines || {})) {
    rows.push({ name, value: b.accuracy, kind: 'baseline' });
  }
  if (!rows.some((r) => r.value && isNumber(r.value.value))) return null;
  const guess = chance(e, of);
  const ticks = [0, 0.5, 1];
  return card('Accuracy',
    (guess ? `The dotted line is chance (${percent(guess)}). ` : '')
    + 'A question without an answer counts as not correct.'
    + (Object.keys(e.baselines || {}).length
      ? ' Thin marks are baselines that only see gestures, fitted on training sessions.' : ''),
    intervals('Accuracy by arm', rows, [0, 1], ticks, guess ? [guess] : [], percent,
      (x) => `${100 * x}%`),
    table({ class: 'numbers' }, 'Further figures',
      ['', 'if answered', 'macro-F1'],
      rows.map((row) => {
        const source = row.kind === 'baseline' ? e.baselines[row.name] : e.arms[row.kind];
        return [row.name, el('td', { role: 'cell' }, figures(source.accuracy_when_answered, percent)),
          el('td', { role: 'cell' }, figures(source.macro_f1, decimal))];
      })));
}

function gains(e) {
  const names = {
    'with - without': ['with − without', 'with'],
    'with - placebo': ['with − placebo', 'with'],
    'placebo - without': ['placebo − without', 'placebo'],
  };
  const rows = Object.entries(e.comparisons || {}).map(([key, c]) => ({
    name: (names[key] || [key])[0], kind: (names[key] || ['', 'with'])[1], value: c.gain, key,
  }));
  const ends = rows.flatMap((r) => (r.value ? [r.value.low, r.value.high, r.value.value] : []))
    .filter(isNumber).map(Math.abs);
  if (!ends.length) return null;
  const step = [0.05, 0.1, 0.2, 0.5, 1].find((s) => s >= Math.max(...ends)) || 1;
  return card('Gains', 'In points of accuracy, paired by scenario.',
    intervals('Gains between arms', rows, [-step, step], [-step, 0, step], [0], signed, signed),
    table({ class: 'numbers' },
      'McNemar test: scenarios that only one arm of the two got right',
      ['', 'only the first', 'only the second', 'p'],
      rows.map((r) => {
        const m = e.comparisons[r.key].mcnemar || {};
        return [r.name, count(m.b), count(m.c), pValue(m.p)];
      })));
}

function outcomes(e) {
  const kind = (status) => `status-${status.replace(' ', '-')}`;
  const rows = armsOf(e).map((arm) => {
    const total = STATUSES.reduce((sum, s) => sum + (e.arms[arm][s] || 0), 0);
    const parts = STATUSES.map((s) => ({
      name: s, share: total ? (e.arms[arm][s] || 0) / total : 0, class: kind(s),
    })).filter((p) => p.share > 0);
    return [ARM_NAMES[arm],
      el('td', { role: 'cell', class: 'picture' }, stack(`Outcomes ${ARM_NAMES[arm]}`, parts))];
  });
  return card('What became of the questions', null,
    el('ul', { class: 'legend', 'aria-hidden': 'true' }, STATUSES.map((s) =>
      el('li', {}, svg('svg', { class: 'key' },
        svg('rect', { class: kind(s), width: 12, height: 12 })), s))),
    table({ class: 'figure two' }, 'Outcomes by arm', [], rows),
    table({ class: 'numbers' }, 'Number of questions', ['', ...armsOf(e)],
      STATUSES.map((s) => [s, ...armsOf(e).map((arm) => count(e.arms[arm][s]))])));
}

function calibration(e, of) {
  const plots = armsOf(e).map((arm) => {
    const bins = Array.from({ length: 10 }, () => ({ n: 0, confidence: 0, right: 0 }));
    for (const r of of) {
      if (r.arm !== arm || !isNumber(r.confidence) || typeof r.correct !== 'boolean') continue;
      if (r.status !== 'answered') continue;
      const bin = bins[Math.min(9, Math.max(0, Math.floor(10 * r.confidence)))];
      bin.n += 1;
      bin.confidence += r.confidence;
      bin.right += r.correct ? 1 : 0;
    }
    if (!bins.some((b) => b.n)) return null;
    const means = bins.map((b) =>
      b.n ? { n: b.n, confidence: b.confidence / b.n, right: b.right / b.n } : b);
    return el('figure', {}, reliability(arm, means), el('figcaption', {}, ARM_NAMES[arm]));
  });
  if (!plots.some(Boolean)) return null;
  return card('Calibration',
    'How often answers are right (upwards), by the confidence given with them (to the right). '
    + 'On the dotted line a judge is as sure as it should be.',
    el('div', { class: 'plots' }, plots),
    table({ class: 'numbers' }, 'Calibration figures', ['', 'mean confidence', 'ECE', 'Brier'],
      armsOf(e).map((arm) => [ARM_NAMES[arm], percent(e.arms[arm].mean_confidence),
        decimal(e.arms[arm].ece), decimal(e.arms[arm].brier)])));
}

function positions(e) {
  const rows = armsOf(e).filter((arm) => (e.arms[arm].positions || []).length > 1);
  const number = Math.max(0, ...rows.map((arm) => e.arms[arm].positions.length));
  if (!number) return null;
  const ordinal = (i) => ['1st', '2nd', '3rd'][i] || `${i + 1}th`;
  return card('Positions chosen',
    'Share of answers that chose the option shown 1st, 2nd, … Options are rotated, so that a '
    + 'judge that prefers a position gains nothing.',
    table({ class: 'figure two' }, 'Positions chosen by arm', [], rows.map((arm) => [
      ARM_NAMES[arm],
      el('td', { role: 'cell', class: 'picture' }, stack(`Positions ${ARM_NAMES[arm]}`,
        e.arms[arm].positions.map((share, i) => ({
          name: ordinal(i), share: share || 0, class: `position-${i % 4}`,
        })))),
    ])),
    table({ class: 'numbers' }, 'Shares',
      ['', ...Array.from({ length: number }, (_, i) => ordinal(i))],
      rows.map((arm) => [ARM_NAMES[arm], ...e.arms[arm].positions.map(percent)])));
}

const FIRST_GESTURES = 12;
function gestures(e) {
  const rows = e.gestures || [];
  if (!rows.length) return null;
  const most = Math.max(...rows.map((g) => Math.max(g.to_right, g.to_wrong)), 1);
  const line = (g) => [
    g.name,
    el('td', { role: 'cell', class: 'picture' }, diverging(
      `${g.name}: ${g.to_wrong} to wrong, ${g.to_right} to right`, g.to_wrong, g.to_right, most)),
    el('td', { role: 'cell', class: 'number' },
      el('span', { class: 'bad' }, `${count(g.to_wrong)} wrong`), ' · ',
      el('span', { class: 'good' }, `${count(g.to_right)} right`),
      el('span', { class: 'soft range' }, `of ${plural(g.scenarios, 'scenario', 'scenarios')}`)),
  ];
  const figure = table({ class: 'figure' }, 'Gestures and the answers they stood beside', [],
    rows.slice(0, FIRST_GESTURES).map(line));
  const rest = rows.slice(FIRST_GESTURES);
  return card('Gestures where answers moved',
    'Scenarios whose choice turned right or wrong when their gestures were shown, by the gestures '
    + 'in them. A gesture that often occurs stands beside many: this is no proof that it moved '
    + 'the answer.',
    figure,
    rest.length > 0 && el('button', {
      type: 'button',
      onclick: (event) => {
        figure.tBodies[0].append(...table({}, '', [], rest.map(line)).tBodies[0].rows);
        event.target.remove();
      },
    }, `Show ${plural(rest.length, 'more gesture', 'more gestures')}`));
}

function open(e) {
  if (!e.open) return null;
  const rows = (figure) => armsOf(e).filter((arm) => e.open[arm]).map((arm) => ({
    name: ARM_NAMES[arm], value: e.open[arm][figure], kind: arm,
  }));
  const picture = (title, figure, most) => intervals(title, rows(figure), [0, most],
    [0, most / 2, most], [], decimal, (x) => String(x));
  const pairs = Object.entries(e.open_comparisons || {});
  return card('Open-ended answers',
    `Scored by ${e.rubric_judge || 'a rubric judge'}, which does not see the arm: completeness `
    + 'from 0 to 1, depth from 0 to 4.',
    el('h4', {}, 'Completeness'), picture('Completeness by arm', 'completeness', 1),
    el('h4', {}, 'Depth'), picture('Depth by arm', 'depth', 4),
    pairs.length > 0 && table({ class: 'numbers' }, 'Gains, paired by scenario',
      ['', 'completeness', 'depth'],
      pairs.map(([pair, gain]) => [
        pair, interval(gain.completeness, decimal), interval(gain.depth, decimal),
      ])));
}

function set(e, index) {
  const of = records[index];
  const title = `set-${index}`;
  return el('section', { class: 'set', 'aria-labelledby': title },
    el('h2', { id: title }, e.name || `Set ${index + 1}`, ' ',
      evaluations.length > 1 && badges([e])),
    facts(e), verdict(e),
    el('div', { class: 'cards' },
      accuracy(e, of), gains(e), open(e), outcomes(e), calibration(e, of), positions(e),
      gestures(e)));
}

header();
document.getElementById('sets').append(...evaluations.map(set));
