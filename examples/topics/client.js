/* A client of the protocol flowserve.topics.v1 (flowserve/topics/PROTOCOL.md): README.md says how to use it. */

export const START = "*.0.", OLDEST = "-.0.";  // as since: before the first message; before the oldest that is kept

const FIRST = 500, LONGEST = 30000;  // ms: bounds of the random delays between attempts; each is twice the one before
const STABLE = 5000;  // ms: after a connection that was open for so long, they begin anew
const OPENING = 10000, QUIET = 25000, ANSWER = 10000;  // ms: until it opens; without a message; then, for an answer
const WAITING = 1000;  // publishes that may wait for an answer
const UNAVAILABLE = { code: "unavailable", message: "nothing can be published now" };

const failure = (error) => Object.assign(new Error(error.message), error);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const decode = (base64) => Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));

export function connect(url, { onstatus, grant, events } = {}) {
  let link;  // the connection, or the attempt at one: { ws or source, open since, heard at, leaving, timers,
  // unanswered: publishes, credit: how many more the server would take }
  let timer, attempts = 0, failures = 0, numbers = 0;
  const ending = new AbortController(), { signal } = ending;
  const prefix = crypto.randomUUID();
  const topics = new Map();  // by name: { since, handlers }
  const requests = new Map();  // by id: what takes the answer
  const publishes = new Set();  // in order: { message, done, link: on which it was sent }

  async function open() {
    clearTimeout(timer);
    const timers = [setTimeout(() => lost(mine), OPENING)];
    const mine = link = { leaving: new Map(), timers, unanswered: 0, credit: 0 };
    try {
      const granted = await grant?.();
      if (mine !== link) return;
      if (events && topics.size && failures > 1 && failures % 2 === 0) listen(mine);
      else openSocket(mine, granted);
    } catch {
      lost(mine);
    }
  }

  function openSocket(mine, granted) {
    const ws = mine.ws = new WebSocket(url, "flowserve.topics.v1");
    ws.onclose = ({ code }) => {
      if (mine === link && code === 1009) refuse({ code: "too_big", message: "it is too big" }, mine);
      lost(mine);
    };
    ws.onmessage = take;
    ws.onopen = () => {
      if (mine !== link) return;
      requests.clear();
      failures = 0;
      opened(mine, "open");
      mine.timers.push(setInterval(() => Date.now() - mine.heard > QUIET && ping(), QUIET / 5));
      if (granted) request({ type: "authorize", grant: granted });
      topics.forEach(begin);
      flow();
    };
  }

  function listen(mine) {  // where WebSockets don't get through; the topics are in the URL
    const since = [...topics].map(([topic, { since }]) => [topic, since]);
    const source = mine.source = new EventSource(events(Object.fromEntries(since)));
    source.onopen = () => { opened(mine, "events"); flow(); };
    source.onerror = () => lost(mine);
    source.onmessage = take;
    source.addEventListener("positions", ({ data }) => {
      const found = JSON.parse(data);
      topics.forEach((each, topic) => each.since ??= found[topic] ?? null);
    });
  }

  function opened(mine, status) {
    if (mine !== link) return;
    clearTimeout(mine.timers[0]);
    mine.open = mine.heard = Date.now();
    onstatus?.(status);
  }

  function drop() {
    const mine = link;
    link = null;
    mine?.timers.forEach(clearTimeout);
    (mine?.ws ?? mine?.source)?.close();
  }

  function lost(mine) {
    if (mine !== link) return;
    if (mine.source || !mine.open) failures++;
    if (mine.open && Date.now() - mine.open > STABLE) attempts = 0;
    drop();
    timer = setTimeout(open, Math.random() * Math.min(LONGEST, FIRST * 2 ** attempts++));
    onstatus?.("waiting");
  }

  function refuse(error, mine) {  // what waits to be published, or was sent
    for (const each of publishes) if (!mine || each.link === mine) each.done({ error });
  }

  function flow() {  // sends no more than the server takes: behind one that is refused, another might overtake it
    const mine = link;
    if (!mine?.open) return;
    if (mine.source) return refuse(UNAVAILABLE);
    for (const each of publishes) {
      if (mine.unanswered && mine.credit < 1) return;
      if (each.link === mine) continue;
      each.link = mine;
      mine.unanswered++;
      mine.credit--;
      request(each.message, async (answer) => {
        const { error, remaining = Infinity } = answer;
        if (error?.code === "rate_limited") {
          mine.credit = 0;
          await sleep(error.retry_after * 1000);
          if (each.link === mine) each.link = null;
        } else each.done(answer);
        mine.unanswered--;
        if (!error) mine.credit = remaining - mine.unanswered;
        flow();
      });
    }
  }

  function wake() {  // the network is back, or the page is seen again
    if (globalThis.document?.hidden) return;
    if (!link) open();
    else if (link.ws && link.open) ping();
  }

  function ping() {
    const mine = link;
    if (mine.pinging) return;
    mine.timers.push(mine.pinging = setTimeout(() => lost(mine), ANSWER));
    request({ type: "ping" }, () => mine.pinging = clearTimeout(mine.pinging));
  }

  function request(message, done) {
    const id = ++numbers;
    requests.set(id, done);
    link.ws.send(JSON.stringify({ id, ...message }));
  }

  function begin(subscription, topic) {
    if (link?.source) return drop(), open();
    if (!link?.open) return;
    const { since, handlers: { onpresence } } = subscription;
    request({ type: "subscribe", topic, presence: !!onpresence, ...(since && { since }) }, ({ error, position }) => {
      if (topics.get(topic) !== subscription) return;
      if (error) refused(subscription, topic, error);
      else subscription.since ??= position;
    });
  }

  async function refused(subscription, topic, error) {
    const mine = link, old = error.code === "expired" || (error.code === "forbidden" && !subscription.renewed);
    if (grant && old) {
      subscription.renewed = true;  // until something comes
      const granted = await Promise.resolve().then(grant).catch(() => null);
      if (!granted) lost(mine);  // and it is asked for again
      else if (mine === link) request({ type: "authorize", grant: granted });
    } else if (error.code === "unavailable") {
      await sleep(FIRST * (1 + Math.random()));
    } else {
      topics.delete(topic);
      return subscription.handlers.onerror?.(failure(error));
    }
    if (mine === link && topics.get(topic) === subscription) begin(subscription, topic);
  }

  function leave(topic) {
    topics.delete(topic);
    if (link?.source) return drop(), open();
    if (!link?.open) return;
    const { leaving } = link, count = (step) => leaving.set(topic, (leaving.get(topic) ?? 0) + step);
    count(1);
    request({ type: "unsubscribe", topic }, () => count(-1));
  }

  function take({ target, data: text }) {
    if (target !== (link?.ws ?? link?.source)) return;
    const message = JSON.parse(text), { id, topic, position, data, encoding, gap, end, failure, error } = message;
    link.heard = Date.now();
    if (id !== undefined) {
      const key = id ?? requests.keys().next().value, done = requests.get(key);  // answers come in order
      requests.delete(key);
      return done?.(message);
    }
    const subscription = topics.get(topic);
    if (!subscription || link.leaving.get(topic)) return;  // what comes behind an unsubscribe would come twice
    if (error) return refused(subscription, topic, error);
    const { handlers } = subscription;
    if (message.members || message.joins) return handlers.onpresence?.(message);
    if (data === undefined && !gap && !end) return;
    subscription.since = position ?? subscription.since;
    subscription.renewed = false;
    if (end) leave(topic), handlers.onend?.(failure);
    else if (gap) handlers.ongap?.(position);
    else handlers.onmessage?.(encoding ? decode(data) : data, position);
  }

  globalThis.addEventListener?.("online", wake, { signal });
  globalThis.document?.addEventListener("visibilitychange", wake, { signal });
  open();
  return {
    subscribe(topic, { since = null, ...handlers }) {
      if (topics.has(topic)) throw new Error(`${topic} is subscribed to already`);
      const subscription = { since, handlers };
      topics.set(topic, subscription);
      begin(subscription, topic);
      return {
        get position() { return subscription.since; },
        unsubscribe() { if (topics.get(topic) === subscription) leave(topic); },
      };
    },
    publish(topic, data, key = `${prefix}.${++numbers}`) {
      return new Promise((resolve, reject) => {
        if (signal.aborted || publishes.size >= WAITING) throw failure(UNAVAILABLE);
        const each = { message: { type: "publish", topic, data, key }, done({ error, position }) {
          publishes.delete(each);
          error ? reject(failure(error)) : resolve(position);
        } };
        publishes.add(each);
        flow();
      });
    },
    close() {
      ending.abort();
      clearTimeout(timer);
      drop();
      refuse({ code: "closed", message: "the client is closed" });
    },
  };
}
