// The node's page. Everything that the node says, names of files above all, is put on the page as text
// (textContent) and into addresses by encodeURIComponent: never as HTML.

const $ = (id) => document.getElementById(id);
const POLL_MS = 5000;
const PAGE = 100;
/** Event streams at once: a browser has six connections to the node, and the player wants some. */
const STREAMS = 2;

/** An element with a class, text or other elements inside. */
function el(tag, className, ...inside) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

function button(text, className, onClick) {
  const made = el("button", className, text);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

function time(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

// ---- tokens ---------------------------------------------------------------------------------------

const TOKENS = {
  control: { title: "Control token", why: "This node wants its control token (http.control_token)." },
  stream: { title: "Stream token", why: "This node wants its stream token (http.stream_token)." },
};
let asking = null;
let declined = {};

/** The token that a person has given, once for a browser tab. Null: they would not. */
function askToken(kind) {
  if (asking) return asking;
  $("ask-title").textContent = TOKENS[kind].title;
  $("ask-why").textContent = TOKENS[kind].why + (token(kind) ? " The one that was given is not it." : "");
  $("ask-token").value = "";
  $("ask").showModal();
  asking = new Promise((resolve) => {
    const done = (value) => {
      asking = null;
      declined[kind] = value === null;
      if (value !== null) sessionStorage.setItem(kind, value);
      resolve(value);
    };
    $("ask-form").onsubmit = (event) => {
      event.preventDefault();
      const value = $("ask-token").value;
      $("ask").onclose = null;
      $("ask").close();
      done(value);
    };
    $("ask-cancel").onclick = () => $("ask").close();
    $("ask").onclose = () => done(null);
  });
  return asking;
}

const token = (kind) => sessionStorage.getItem(kind);

// ---- asking the node ------------------------------------------------------------------------------

async function problemOf(answer) {
  try {
    const problem = await answer.json();
    return problem.detail || problem.title || `status ${answer.status}`;
  } catch {
    return `the node answered with status ${answer.status}`;
  }
}

/** A call of the control API. Asks for the token where it is wanted, and throws what the node refuses. */
async function api(path, options = {}) {
  for (;;) {
    const given = token("control");
    const headers = { ...options.headers, ...(given ? { Authorization: `Bearer ${given}` } : {}) };
    const answer = await fetch(path, { ...options, headers, cache: "no-store" });
    if (answer.status === 401 && !declined.control) {
      // Another call may have been given it meanwhile.
      if (token("control") !== given || (await askToken("control")) !== null) continue;
    }
    if (!answer.ok) throw new Error(await problemOf(answer));
    return answer;
  }
}

const json = async (path) => (await api(path)).json();

// ---- the node -------------------------------------------------------------------------------------

const STATE_CLASS = { IDLE: "good", BUSY: "busy", ERROR: "bad", MAINTENANCE: "busy" };

async function showNode() {
  const node = await json("/node");
  document.title = `${node.node_id}: sprocket`;
  $("node-id").textContent = node.node_id;
  $("state").textContent = node.state;
  $("state").className = `badge ${STATE_CLASS[node.state] || ""}`;
  $("state-detail").textContent = `${node.capacity.free} of ${node.capacity.slots} slots free`;
  $("reasons").replaceChildren(...node.reasons.map((fault) => el("li", "bad", fault.message || fault.code)));
  const facts = [
    ["version", `sprocket ${node.version}, ${node.libav}`],
    ["up for", time(node.uptime_s)],
    ["processor", `${Math.round(node.cpu.load_percent)} % of ${node.cpu.cores} cores`],
    ["memory", `${bytes(node.memory.used_bytes)} of ${bytes(node.memory.total_bytes)} in use`],
    ...node.disk.map((disk) => [disk.name, diskLine(disk)]),
  ];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", value)]));
}

function diskLine(disk) {
  if (!disk.answering) return "does not answer";
  return Number.isFinite(disk.free_bytes) ? `${bytes(disk.free_bytes)} free` : "answers";
}

// ---- jobs -----------------------------------------------------------------------------------------

const JOB_CLASS = { succeeded: "good", failed: "bad", cancelled: "busy" };
const live = (job) => job.state === "queued" || job.state === "running";
const lines = new Map();
const followed = new Set();

function jobLine(id) {
  const state = el("span", "badge");
  const name = el("span", "name");
  const stop = button("Cancel", "", async () => {
    try { await api(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }); await showJobs(); }
    catch (e) { trouble(`Job ${id}: ${e.message}`); }
  });
  stop.setAttribute("aria-label", `Cancel job ${id}`);
  const play = button("Play", "", () => playAddress(play.dataset.path, play.dataset.title));
  play.setAttribute("aria-label", `Play job ${id}`);
  const bar = el("progress", "");
  bar.max = 100;
  bar.setAttribute("aria-label", `Progress of job ${id}`);
  const detail = el("p", "detail");
  const line = { item: el("li", "", name, el("span", "", play, stop), bar, detail), name, state, stop, play, bar, detail };
  name.append(state, ` ${id}`);
  return line;
}

function showProgress(line, job) {
  const { percent, speed, eta_ms: eta } = job.progress;
  if (percent === null || percent === undefined) line.bar.removeAttribute("value");
  else line.bar.value = percent;
  line.bar.hidden = !live(job);
  const parts = [job.input];
  if (job.state === "running") {
    if (Number.isFinite(percent)) parts.push(`${percent.toFixed(1)} %`);
    if (speed > 0) parts.push(`${speed.toFixed(2)}× real time`);
    if (Number.isFinite(eta)) parts.push(`${time(eta / 1000)} left`);
  }
  if (job.error) parts.push(job.error.message);
  line.detail.textContent = parts.join(" · ");
}

function showJob(job) {
  let line = lines.get(job.id);
  if (!line) lines.set(job.id, (line = jobLine(job.id)));
  line.job = job;
  line.state.textContent = job.state;
  line.state.className = `badge ${JOB_CLASS[job.state] || ""}`;
  line.stop.hidden = !live(job);
  const output = job.outputs.master;
  line.play.hidden = !output || job.state !== "succeeded";
  if (output) { line.play.dataset.path = output.path; line.play.dataset.title = job.id; }
  showProgress(line, job);
  if (job.state === "running" && !followed.has(job.id) && followed.size < STREAMS) follow(job.id);
  return line;
}

async function showJobs() {
  const { jobs, next } = await json("/jobs?limit=20");
  const shown = jobs.map((job) => showJob(job).item);
  // Only what changed is touched: a focused button keeps its focus.
  const list = $("jobs");
  if (shown.length !== list.children.length || shown.some((item, i) => item !== list.children[i])) list.replaceChildren(...shown);
  const ids = new Set(jobs.map((job) => job.id));
  for (const id of lines.keys()) if (!ids.has(id)) lines.delete(id);
  $("jobs-note").textContent = jobs.length === 0 ? "No jobs yet." : next ? "Older ones are left out." : "";
}

/** The events of one job, as they come: EventSource cannot send the token. */
async function follow(id) {
  followed.add(id);
  try {
    const answer = await api(`/jobs/${encodeURIComponent(id)}/events`);
    if (!answer.body) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      events.forEach((event) => happened(id, event));
    }
  } catch {
    // The next look at the list follows again.
  } finally {
    followed.delete(id);
  }
}

function happened(id, event) {
  const fields = event.split("\n").map((line) => line.split(/: ?(.*)/s));
  const data = fields.filter(([name]) => name === "data").map(([, value]) => value).join("\n");
  const line = lines.get(id);
  if (!data || !line) return;
  const told = JSON.parse(data);
  if (told.record) showJob(told.record);
  else { line.job.progress = told; showProgress(line, line.job); }
}

// ---- files ----------------------------------------------------------------------------------------

/** Empty: the list of roots. Else the root and the folders below it. */
let place = [];
let next = null;

async function open(names) {
  place = names;
  trouble("");
  const crumb = (name, depth) => el("li", "", button(name, "link", () => visit(names.slice(0, depth))));
  $("crumbs").replaceChildren(crumb("roots", 0), ...names.map((name, i) => crumb(name, i + 1)));
  $("files").replaceChildren();
  $("files-note").textContent = "";
  $("files-more").hidden = true;
  if (names.length > 0) return more(null);
  const { roots } = await json("/roots");
  const line = (root) => el("li", "", el("span", "name", button(root.name, "link", () => visit([root.name]))),
    el("span", "soft", root.answering ? "" : "does not answer"));
  $("files").replaceChildren(...roots.map(line));
  if (roots.length === 0) $("files-note").textContent = "No roots are configured (paths.roots).";
}

async function more(after) {
  const names = place;
  const query = new URLSearchParams({ limit: PAGE, ...(after ? { after } : {}) });
  const listing = await json(`/roots/${names.map(encodeURIComponent).join("/")}?${query}`);
  // The person may have gone elsewhere meanwhile.
  if (names !== place) return;
  $("files").append(...listing.entries.map((entry) => fileLine(names, entry)));
  next = listing.next;
  $("files-more").hidden = next === null;
  const skipped = listing.skipped > 0 ? `${listing.skipped} names are not UTF-8 and left out.` : "";
  $("files-note").textContent = $("files").children.length === 0 ? `Nothing here. ${skipped}` : skipped;
}

function fileLine(names, entry) {
  const whole = [...names, entry.name];
  const folder = entry.kind === "folder";
  const act = () => (folder ? visit(whole) : play(whole));
  const size = folder ? "folder" : bytes(entry.size_bytes);
  return el("li", "", el("span", "name", button(entry.name, "link", act)), el("span", "soft", size));
}

function visit(names) {
  open(names).catch((e) => trouble(e.message));
}

// ---- the player -----------------------------------------------------------------------------------

let hls = null;

/** Media have a token of their own, in the address, since a player cannot send a header. */
function withToken(path) {
  const given = token("stream");
  return given ? `${path}?token=${encodeURIComponent(given)}` : path;
}

/** What is at an address below /vod or /stream, with the token where it is wanted. */
async function media(path) {
  for (;;) {
    const given = token("stream");
    const answer = await fetch(withToken(path), { cache: "no-store" });
    if (answer.status === 401 && (token("stream") !== given || (await askToken("stream")) !== null)) continue;
    if (!answer.ok) throw new Error(await problemOf(answer));
    return answer;
  }
}

async function play(names) {
  const title = names[names.length - 1];
  const base = `/vod/${names.map(encodeURIComponent).join("/")}`;
  trouble("");
  try {
    const info = await (await media(`${base}/info.json`)).json();
    await start(`${base}/${info.play === "direct" ? "direct" : "master"}.m3u8`, title);
  } catch (e) {
    stop();
    trouble(`${title}: ${e.message}`);
  }
}

async function playAddress(path, title) {
  trouble("");
  try {
    await media(path);
    await start(path, title);
  } catch (e) {
    stop();
    trouble(`${title}: ${e.message}`);
  }
}

/** Apple's own player is the better one where it is; elsewhere "maybe" may mean half of HLS. */
const plays = (video) => video.canPlayType("application/vnd.apple.mpegurl") !== "" && /apple/i.test(navigator.vendor);

async function start(path, title) {
  stop();
  const video = $("video");
  const address = withToken(path);
  $("player").hidden = false;
  $("player-title").textContent = title;
  $("player-address").value = new URL(address, location.href).href;
  $("player-detail").textContent = "Loading…";
  if (plays(video)) {
    video.src = address;
  } else {
    const Hls = await hlsJs(video.dataset.hls);
    if (!Hls.isSupported()) throw new Error("this browser can play neither HLS nor media sources; use the address in a player");
    hls = new Hls();
    hls.on(Hls.Events.ERROR, (_, data) => data.fatal && failed(data.details));
    hls.loadSource(address);
    hls.attachMedia(video);
  }
  $("player").scrollIntoView({ block: "start" });
  video.focus({ preventScroll: true });
  // Without a touch of the person's a browser may not start with sound; the controls are there.
  video.play().catch(() => {});
}

let loading = null;

function hlsJs(path) {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", "");
    script.src = path;
    script.onload = () => resolve(window.Hls);
    script.onerror = () => { loading = null; reject(new Error("the player could not be loaded from the node")); };
    document.head.append(script);
  });
  return loading;
}

function failed(why) {
  $("player-detail").textContent = "";
  trouble(`${$("player-title").textContent}: the player gave up (${why})`);
}

function stop() {
  hls?.destroy();
  hls = null;
  const video = $("video");
  video.pause();
  video.removeAttribute("src");
  video.load();
  $("player").hidden = true;
}

function playerDetail() {
  const video = $("video");
  if (video.videoWidth > 0) $("player-detail").textContent = `${video.videoWidth}×${video.videoHeight}, ${time(video.duration)}`;
}

// ---- all of it ------------------------------------------------------------------------------------

$("video").addEventListener("resize", playerDetail);
$("video").addEventListener("loadedmetadata", playerDetail);
$("video").addEventListener("error", () => $("video").error && !hls && $("video").getAttribute("src") && failed($("video").error.message));
$("player-close").addEventListener("click", stop);
$("player-address").addEventListener("focus", (event) => event.target.select());
$("files-more").addEventListener("click", () => more(next).catch((e) => trouble(e.message)));

async function look() {
  try {
    if (!document.hidden) await Promise.all([showNode(), showJobs()]);
  } catch (e) {
    $("state").textContent = "no answer";
    $("state").className = "badge bad";
    $("state-detail").textContent = e.message;
  }
  setTimeout(look, POLL_MS);
}

look();
visit([]);
