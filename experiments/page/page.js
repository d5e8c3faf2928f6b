// Draws the charts of a page by Plotly, and compares translations. What is
// drawn lies in the page, as JSON: see experiments/render/charts.py.
'use strict';

const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00',
  '#56B4E9', '#7f7f7f', '#AA4466', '#999933'];
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const colour = i => COLOURS[i % COLOURS.length];
const faint = i => colour(i) + '33';

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function lines(chart, axis) {
  const traces = [];
  chart.lines.forEach((line, i) => {
    const x = (line.x || chart.x)[axis];
    if (line.low) {
      traces.push({x: [...x, ...x.slice().reverse()],
        y: [...line.high, ...line.low.slice().reverse()], fill: 'toself',
        fillcolor: faint(i), line: {width: 0}, mode: 'lines',
        hoverinfo: 'skip', showlegend: false, legendgroup: line.label});
    }
    traces.push({x, y: line.y, name: line.label, mode: 'lines+markers',
      marker: {size: 5}, line: {color: colour(i)}, legendgroup: line.label,
      hovertemplate: '%{y}<br>at %{x}'});
  });
  return traces;
}

function points(chart) {
  return chart.groups.map((group, i) => ({name: group.label, x: group.x,
    y: group.y || group.names, text: group.names, mode: 'markers',
    marker: {size: 9, color: colour(i)},
    error_x: group.low && {type: 'data', symmetric: false,
      array: group.high.map((high, k) => high - group.x[k]),
      arrayminus: group.low.map((low, k) => group.x[k] - low)},
    hovertemplate: '%{text}<br>%{x}' + (group.y ? ', %{y}' : '')}));
}

function timeline(chart) {
  const parts = {pull: [0, 1], compute: [1, 2], push: [2, 3]};
  return Object.entries(parts).map(([name, [from, to]], i) => ({name,
    type: 'bar', orientation: 'h', marker: {color: colour(i)},
    y: chart.slices.map(slice => 'worker ' + slice[0]),
    base: chart.slices.map(slice => slice[1 + from]),
    x: chart.slices.map(slice => slice[1 + to] - slice[1 + from]),
    text: chart.slices.map(slice => 'staleness ' + slice[5]),
    textposition: 'none', hovertemplate: '%{x} s, %{text}'}));
}

const traces = (chart, axis) => ({lines, points, timeline,
  bars: chart => [{type: 'bar', x: chart.x, y: chart.y,
    marker: {color: colour(0)}, hovertemplate: '%{y} with %{x}'}],
})[chart.kind](chart, axis);

function layout(chart, axis) {
  const style = getComputedStyle(document.body);
  const line = style.getPropertyValue('--line');
  const label = chart.axes ? chart.axes[axis] : chart.x_label;
  const axes = {gridcolor: line, linecolor: line, zerolinecolor: line};
  return {title: {text: chart.title, font: {size: 15}},
    xaxis: {...axes, title: {text: label}, type: chart.log ? 'log' : undefined},
    yaxis: {...axes, title: {text: chart.y_label || ''},
      automargin: true,
      autorange: chart.kind === 'timeline' ? 'reversed' : true},
    barmode: 'overlay', hovermode: 'closest',
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: {color: style.color}, margin: {l: 60, r: 15, t: 45, b: 50},
    legend: {orientation: 'h', y: -0.25}};
}

// What a screen reader says of a chart: where each line ends.
function told(chart) {
  const last = list => list[list.length - 1];
  const said = {lines: () => chart.lines.map(l => `${l.label} ${last(l.y)}`),
    points: () => chart.groups.map(g => g.label), timeline: () => [],
    bars: () => chart.x.map((x, i) => `${x}: ${chart.y[i]}`)};
  return [chart.title, ...said[chart.kind]()].filter(Boolean).join(', ');
}

function draw(place, chart) {
  const box = element('div', {className: 'chart'});
  const plot = element('div', {className: 'plot', role: 'figure',
    ariaLabel: told(chart)});
  const names = Object.keys(chart.axes || {});
  let axis = names[0];
  const show = () => Plotly.react(plot, traces(chart, axis),
    layout(chart, axis), {responsive: true, displaylogo: false});
  box.append(plot);
  if (chart.kind === 'lines') {
    const controls = element('div', {className: 'controls'});
    if (names.length > 1) {
      const select = element('select', {},
        ...names.map(n => element('option', {value: n}, chart.axes[n])));
      select.addEventListener('change', () => { axis = select.value; show(); });
      controls.append(element('label', {}, 'x: ', select));
    }
    for (const side of ['x', 'y']) {
      const check = element('input', {type: 'checkbox', name: `${side}-log`});
      check.checked = side === 'x' && chart.log;
      check.addEventListener('change', () => Plotly.relayout(plot,
        {[`${side}axis.type`]: check.checked ? 'log' : 'linear'}));
      controls.append(element('label', {}, check, ` ${side} logarithmic`));
    }
    box.append(controls);
  }
  place.append(box);
  dark.addEventListener('change', show);
  return show;
}

// Plotly arrives compressed, see asset() in site.py.
async function unpack() {
  const packed = await fetch('data:;base64,' + window.PLOTLY);
  const text = packed.body.pipeThrough(new DecompressionStream('gzip'));
  const script = element('script');
  script.textContent = await new Response(text).text();
  document.head.append(script);
}

async function charts() {
  const data = document.getElementById('charts');
  const all = data ? JSON.parse(data.textContent) : {};
  if (document.querySelector('.charts, #live')) await unpack();
  for (const place of document.querySelectorAll('.charts')) {
    let x;  // A chart without x has that of the one before.
    const shows = (all[place.dataset.charts] || []).map(chart => {
      x = chart.x = chart.x || x;
      return draw(place, chart);
    });
    shows.forEach(show => show());  // When each has its final size.
  }
}

function compare() {
  const place = document.getElementById('translations');
  if (!place) return;
  const {texts, runs: every} = window.TRANSLATIONS;
  const shown = [place.dataset.run], select = document.getElementById('add');
  const text = every[shown[0]].text, same = key => every[key].text === text;
  select.append(element('option', {value: ''}, 'another run'), ...Object.keys(
    every).filter(same).map(k => element('option', {value: k}, every[k].name)));
  const show = () => {
    const head = ['source', 'reference', ...shown.map(k => every[k].name)];
    const {source, reference} = texts[text];
    const rows = source.map((words, i) => [words, reference[i],
      ...shown.map(k => every[k].translation[i] || '')]);
    const row = (name, cells) => element('tr', {},
      ...cells.map(cell => element(name, {}, cell)));
    place.replaceChildren(element('table', {},
      element('thead', {}, row('th', head)),
      element('tbody', {}, ...rows.map(cells => row('td', cells)))));
    scroll();
  };
  select.addEventListener('change', () => {
    if (select.value) shown.push(select.value);
    show();
  });
  show();
}

// Tables and commands wider than the page scroll; by the keyboard, too.
function scroll() {
  for (const wide of document.querySelectorAll('.wide, pre')) {
    const scrolls = wide.scrollWidth > wide.clientWidth;
    wide.tabIndex = scrolls ? 0 : -1;
    wide.role = scrolls ? 'group' : null;
    wide.ariaLabel = scrolls ? 'scrolls to the side' : null;
  }
}

function filter() {
  const input = document.getElementById('filter');
  if (!input) return;
  input.addEventListener('input', () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll('#runs tbody tr')) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
}

// Runs that are being made: asks every three seconds what is new.
function live() {
  const place = document.getElementById('live');
  if (!place) return;
  const boxes = new Map(), updated = document.getElementById('updated');
  const box = run => {
    if (!boxes.has(run.name)) {
      const told = element('p'), bar = element('progress', {max: 1});
      const plots = element('div', {className: 'charts'});
      const made = element('section', {}, element('h2', {}, run.name), bar,
        told, plots);
      boxes.set(run.name, {made, told, bar, plots});
    }
    return boxes.get(run.name);
  };
  const refresh = async () => {
    try {
      const runs = await (await fetch('state.json')).json();
      // Moving what is in place would reset where the reader is.
      const wanted = runs.map(run => box(run).made);
      if (wanted.some((made, i) => place.children[i] !== made)) {
        place.replaceChildren(...wanted);
      }
      for (const run of runs) {
        const {told, bar, plots} = box(run);
        told.textContent = run.told;
        bar.value = run.share;
        bar.ariaLabel = run.name;
        const length = run.chart ? run.chart.lines[0].y.length : 0;
        if (length && Number(plots.dataset.length) !== length) {
          plots.dataset.length = length;
          plots.replaceChildren();
          draw(plots, run.chart)();
        }
      }
      updated.textContent = runs.length ? `${runs.length} runs, as of ` +
        new Date().toLocaleTimeString() : 'no runs yet';
    } catch (error) {
      updated.textContent = 'the server has ended';
    }
    setTimeout(refresh, 3000);
  };
  refresh();
}

compare();
filter();
scroll();
window.addEventListener('resize', scroll);
charts().then(live);
