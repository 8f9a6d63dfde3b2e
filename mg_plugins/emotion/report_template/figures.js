// Pictures. Each is a row of a table, so that name, picture and numbers stand together; positions
// are percentages, so that they fit any width while text keeps its size.

const place = (x, range) => `${(100 * (x - range[0])) / (range[1] - range[0])}%`;

function strip(label, ...shapes) {
  return svg('svg', { class: 'strip', role: 'img', 'aria-label': label }, shapes);
}

// A dot with its interval; `kind` is an arm, or 'baseline' for a thin mark.
function dot(value, range, kind, label, references, format) {
  const shapes = references.map((x) =>
    svg('line', { class: 'reference', x1: place(x, range), x2: place(x, range), y1: 0, y2: 40 }),
  );
  if (hasInterval(value)) {
    shapes.push(
      svg('line', {
        class: `whisker ${kind}`,
        x1: place(Math.max(value.low, range[0]), range),
        x2: place(Math.min(value.high, range[1]), range),
        y1: 20,
        y2: 20,
      }),
    );
  }
  if (value && isNumber(value.value)) {
    const x = place(value.value, range);
    shapes.push(
      kind === 'baseline'
        ? svg('line', { class: 'tick', x1: x, x2: x, y1: 13, y2: 27 })
        : svg('circle', { class: `dot ${kind}`, cx: x, cy: 20, r: 6 }),
    );
  }
  return strip(`${label}: ${interval(value, format)}`, shapes);
}

function axis(range, ticks, format) {
  return svg(
    'svg',
    { class: 'strip axis', 'aria-hidden': 'true' },
    svg('line', { class: 'rule', x1: 0, x2: '100%', y1: 1, y2: 1 }),
    ticks.map((x, i) =>
      svg(
        'text',
        {
          x: place(x, range),
          y: 16,
          'text-anchor': i === 0 ? 'start' : i === ticks.length - 1 ? 'end' : 'middle',
        },
        format(x),
      ),
    ),
  );
}

// rows: {name, value: {value, low, high}, kind}
function intervals(caption, rows, range, ticks, references, format, tickFormat) {
  const shown = rows.map((row) => [
    row.name,
    el('td', { role: 'cell', class: 'picture' },
      dot(row.value, range, row.kind, row.name, references, format)),
    el('td', { role: 'cell', class: 'number' }, figures(row.value, format)),
  ]);
  const figure = table({ class: 'figure' }, caption, [], shown);
  figure.tBodies[0].append(
    el('tr', { class: 'axis', 'aria-hidden': 'true' },
      el('td', {}), el('td', { class: 'picture' }, axis(range, ticks, tickFormat)), el('td', {})),
  );
  return figure;
}

// Shares of a whole, side by side. parts: {name, share, class}
function stack(label, parts) {
  let from = 0;
  const shapes = parts.map((part) => {
    const shape = svg('rect', {
      class: part.class, x: `${100 * from}%`, y: 9, width: `${100 * part.share}%`, height: 22,
    }, svg('title', {}, `${part.name}: ${percent(part.share)}`));
    from += part.share;
    return shape;
  });
  return strip(`${label}: ${parts.map((p) => `${p.name} ${percent(p.share)}`).join(', ')}`, shapes);
}

// Two counts to both sides of a middle line.
function diverging(label, left, right, most) {
  const half = (x) => (50 * x) / Math.max(most, 1);
  return strip(
    label,
    svg('rect', {
      class: 'to-wrong', x: `${50 - half(left)}%`, y: 11, width: `${half(left)}%`, height: 18,
    }),
    svg('rect', { class: 'to-right', x: '50%', y: 11, width: `${half(right)}%`, height: 18 }),
    svg('line', { class: 'rule', x1: '50%', x2: '50%', y1: 0, y2: 40 }),
  );
}

// Reliability diagram: share of right answers over the confidence given, in ten bins.
const PLOT = { width: 190, height: 168, left: 30, right: 6, top: 6, bottom: 24 };
function reliability(arm, bins) {
  const x = (v) => PLOT.left + v * (PLOT.width - PLOT.left - PLOT.right);
  const y = (v) => PLOT.height - PLOT.bottom - v * (PLOT.height - PLOT.top - PLOT.bottom);
  const most = Math.max(...bins.map((b) => b.n));
  const told = bins.filter((b) => b.n > 0);
  const summary = told
    .map((b) => `sure at ${percent(b.confidence)}, right ${percent(b.right)} of ${b.n}`)
    .join('; ');
  return svg(
    'svg',
    {
      class: 'reliability', viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: 'img',
      'aria-label': `Reliability, ${ARM_NAMES[arm]}: ${summary}`,
    },
    svg('line', { class: 'rule', x1: x(0), x2: x(1), y1: y(0), y2: y(0) }),
    svg('line', { class: 'rule', x1: x(0), x2: x(0), y1: y(0), y2: y(1) }),
    svg('line', { class: 'reference', x1: x(0), x2: x(1), y1: y(0), y2: y(1) }),
    [0, 0.5, 1].map((v) => [
      svg('text', { x: x(v), y: y(0) + 14, 'text-anchor': v === 1 ? 'end' : 'middle' }, `${100 * v}%`),
      svg('text', { x: x(0) - 4, y: y(v) + 4, 'text-anchor': 'end' }, `${100 * v}`),
    ]),
    told.map((b) =>
      svg('circle', {
        class: `dot ${arm}`, cx: x(b.confidence), cy: y(b.right),
        r: 2.5 + 4.5 * Math.sqrt(b.n / most),
      }, svg('title', {}, `${b.n} answers`)),
    ),
  );
}
