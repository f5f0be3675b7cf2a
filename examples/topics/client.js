/* A client of the protocol flowserve.topics.v1 (flowserve/topics/PROTOCOL.md): README.md says how to use it. */

export const START = "*.0.", OLDEST = "-.0.";  // as since: before the first message; before the oldest that is kept

const FIRST = 500, LONGEST = 30000;  // ms: bounds of the random delays between attempts; each is twice the one before
const STABLE = 5000;  // ms: after a connection that was open for so long, they begin anew
const OPENING = 10000, QUIET = 25000, ANSWER = 10000;  // ms: until it opens; without a message; then, for an answer
const WAITING = 1000;  // messages that may wait for the answer that they were published

const failure = (error) => Object.assign(new Error(error.message), error);
const decode = (base64) => Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));

export function connect(url, { onstatus, grant, events } = {}) {
  let link = null;  // the connection, or the attempt at one: { ws or source, open since, heard at, leaving, timers }
  let closed = false, timer, attempts = 0, failures = 0, numbers = 0;
  const prefix = crypto.randomUUID();
  const topics = new Map();  // by name: { since, handlers }
  const requests = new Map();  // by id: { message, done } of what was not answered yet

  async function open() {
    clearTimeout(timer);
    const mine = link = { leaving: new Map(), timers: [setTimeout(() => lost(mine), OPENING)] };
    try {
      const granted = await grant?.();
      if (mine !== link) return;
      if (events && failures > 1 && failures % 2 === 0) listen(mine);
      else openSocket(mine, granted);
    } catch {
      lost(mine);
    }
  }

  function openSocket(mine, granted) {
    const ws = mine.ws = new WebSocket(url, "flowserve.topics.v1");
    ws.onclose = ({ code }) => {
      if (mine === link && code === 1009) refuse("too_big", "the message is too big for the server");
      lost(mine);
    };
    ws.onmessage = ({ data }) => mine === link && take(JSON.parse(data));
    ws.onopen = () => {
      if (mine !== link) return;
      const again = [...requests.values()].filter(({ message }) => message.key);
      requests.clear();
      failures = 0;
      opened(mine, "open");
      mine.timers.push(setInterval(() => Date.now() - mine.heard > QUIET && ping(), QUIET / 5));
      if (granted) request({ type: "authorize", grant: granted });
      topics.forEach(begin);
      for (const { message, done } of again) request(message, done);
    };
  }

  function listen(mine) {  // where WebSockets don't get through; the topics are in the URL
    if (!topics.size) return mine.source = { close() {} };  // a subscription will open it
    const since = Object.fromEntries([...topics].map(([topic, { since }]) => [topic, since]));
    const source = mine.source = new EventSource(events(since));
    source.onopen = () => opened(mine, "events");
    source.onerror = () => lost(mine);
    source.onmessage = ({ data }) => mine === link && take(JSON.parse(data));
    source.addEventListener("positions", ({ data }) => {
      for (const [topic, position] of Object.entries(JSON.parse(data))) {
        if (topics.has(topic)) topics.get(topic).since ??= position;
      }
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
    mine?.ws?.close();
    mine?.source?.close();
  }

  function lost(mine) {
    if (mine !== link) return;
    if (mine.source || !mine.open) failures++;
    if (mine.open && Date.now() - mine.open > STABLE) attempts = 0;
    drop();
    timer = setTimeout(open, Math.random() * Math.min(LONGEST, FIRST * 2 ** attempts++));
    onstatus?.("waiting");
  }

  function refuse(code, message) {  // what waits to be published
    for (const { message: { key }, done } of requests.values()) if (key) done({ error: { code, message } });
    requests.clear();
  }

  function wake() {  // the network is back, or the page is seen again
    if (globalThis.document?.hidden) return;
    if (!link) open();
    else if (link.ws && link.open) ping();
  }

  function ping() {
    const mine = link;
    if (mine.pinging) return;
    mine.pinging = true;
    const late = setTimeout(() => lost(mine), ANSWER);
    mine.timers.push(late);
    request({ type: "ping" }, () => { clearTimeout(late); mine.pinging = false; });
  }

  function request(message, done) {
    const id = ++numbers;
    requests.set(id, { message, done });
    if (link?.ws && link.open) link.ws.send(JSON.stringify({ id, ...message }));
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
      await new Promise((resolve) => setTimeout(resolve, FIRST * (1 + Math.random())));
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

  function take({ id, topic, position, data, encoding, gap, end, failure, error, ...presence }) {
    link.heard = Date.now();
    if (id !== undefined) {
      id ??= requests.keys().next().value;  // answers come in order
      const request = requests.get(id);
      requests.delete(id);
      return request?.done?.({ error, position });
    }
    const subscription = topics.get(topic);
    if (!subscription || link.leaving.get(topic)) return;  // what comes behind an unsubscribe would come twice
    if (error) return refused(subscription, topic, error);
    const { handlers } = subscription;
    if (presence.members || presence.joins) return handlers.onpresence?.(presence);
    if (data === undefined && !gap && !end) return;
    subscription.since = position ?? subscription.since;
    subscription.renewed = false;
    if (end) leave(topic), handlers.onend?.(failure);
    else if (gap) handlers.ongap?.(position);
    else handlers.onmessage?.(encoding ? decode(data) : data, position);
  }

  globalThis.addEventListener?.("online", wake);
  globalThis.document?.addEventListener("visibilitychange", wake);
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
        const many = [...requests.values()].filter(({ message }) => message.key).length >= WAITING;
        if (closed || many || link?.source) {
          throw failure({ code: "unavailable", message: "nothing can be published now" });
        }
        request({ type: "publish", topic, data, key }, ({ error, position }) =>
          error ? reject(failure(error)) : resolve(position));
      });
    },
    close() {
      closed = true;
      globalThis.removeEventListener?.("online", wake);
      globalThis.document?.removeEventListener("visibilitychange", wake);
      clearTimeout(timer);
      drop();
      refuse("closed", "the client is closed");
    },
  };
}
