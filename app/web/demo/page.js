// The shop on the left, the email on the right: sends each click, and renders each list that the inbox receives.

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// A list that refines an answer (what other shoppers taught arrives a moment after the click itself) counts into
// the click's latency when it comes within this time of the first; later ones are news of their own.
const REFINED_WITHIN_MS = 1000;
const MAX_MEASURED = 500;
const MAX_PENDING = 50;
const NO_CHANGE_AFTER_MS = 3000;
// A change of stock is in force within a second.
const OPEN_AGAIN_MS = 2000;
// While they are looked at.
const DELIVERIES_EVERY_MS = 1000;
const RULES = { out_of_stock: "is sold out", uncatalogued: "is not in the catalog", unpublished: "is not published", expired: "has expired", bought: "was bought lately" };
const NAMES = ["Ada", "Bruno", "Chiara", "Dario", "Elif", "Femke", "Goran", "Hanna", "Ivo", "Jonas", "Keira", "Lena", "Mila", "Noor", "Oskar", "Pia"];

const catalog = await (await fetch("catalog")).json();
const shop = catalog.shop;
const products = new Map(catalog.products.map((p) => [p.product_id, p]));
const families = new Map(catalog.families.map((f) => [f.family_id, f]));
const money = new Intl.NumberFormat("en-IE", { style: "currency", currency: shop.currency_code });

let visitor = null; // { id, name, seen: {product id: times}, cart: {product id: count} }
let stream = null;
let shownVersion = 0;
let lastData = null; // of the email that is shown
let pending = new Map(); // event id → { at, timer }
let platform = null; // whose fields the email is made of, if not the inbox's
let measured = new Map(); // event id → { first, last }, in milliseconds

// ---- The shop

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function picture(product) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 120 120");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `art.svg#${product.product_id}`);
  svg.append(use);
  return element("span", { class: "art", "data-family": product.family_id }, svg);
}

const price = (product) => money.format(product.price_minor_units / 100);

function shopCard(product) {
  const act = (action) => () => send(action, product.product_id);
  return element(
    "li",
    { class: "product", "data-product": product.product_id },
    element(
      "button",
      { class: "look", type: "button", "aria-label": `Look at ${product.title}, ${price(product)}`, onclick: act("view") },
      picture(product),
      element("span", { class: "seen", hidden: "" }),
      element("span", { class: "title" }, product.title),
      element("span", { class: "price" }, price(product)),
    ),
    element(
      "div",
      { class: "acts" },
      element("button", { type: "button", "data-action": "cart", "aria-label": `Add ${product.title} to the cart`, onclick: act("cart") }, "Add to cart"),
      element("button", { type: "button", "data-action": "buy", "aria-label": `Buy ${product.title}`, onclick: act("buy") }, "Buy"),
      element("button", { type: "button", class: "stock", "data-action": "stock", "aria-label": `Let ${product.title} sell out`, onclick: () => changeStock(product) }, "Sell out"),
    ),
  );
}

function showTrail() {
  for (const card of $("products").children) {
    const id = card.dataset.product;
    const seen = card.querySelector(".seen");
    const times = visitor.seen[id] ?? 0;
    seen.hidden = !times;
    seen.textContent = times > 1 ? `Seen ${times}×` : "Seen";
    const cart = visitor.cart[id] ?? 0;
    card.querySelector("[data-action=cart]").textContent = cart ? `In cart · ${cart}` : "Add to cart";
    card.classList.toggle("in-cart", cart > 0);
  }
  const looked = Object.keys(visitor.seen).length;
  const inCart = Object.values(visitor.cart).reduce((a, b) => a + b, 0);
  $("trail").textContent = looked || inCart ? `${looked} seen · ${inCart} in cart` : "";
}

function remember() {
  sessionStorage.setItem("visitor", JSON.stringify(visitor));
}

function newVisitor() {
  const names = NAMES.filter((n) => n !== visitor?.name);
  const name = names[Math.floor(Math.random() * names.length)];
  const id = `${name.toLowerCase()}-${crypto.randomUUID().slice(0, 6)}`;
  become({ id, name, seen: {}, cart: {} });
  arrive();
}

function become(someone) {
  visitor = someone;
  remember();
  for (const { timer } of pending.values()) clearTimeout(timer);
  pending.clear();
  shownVersion = 0;
  lastData = null;
  $("why").open = false;
  $("sent").open = false;
  $("visitor-name").textContent = visitor.name;
  $("avatar").textContent = visitor.name[0];
  $("profile-link").href = `worker/v1/users/${visitor.id}`;
  say("");
  showTrail();
  showNoEmailYet();
  listen();
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  showEvents(answer.events);
}

async function arrive() {
  try {
    await post("visitors", { event_id: crypto.randomUUID(), user_id: visitor.id, name: visitor.name });
  } catch (problem) {
    say(`${visitor.name} did not arrive. ${problem.message}`);
  }
}

async function send(action, productId) {
  const eventId = crypto.randomUUID();
  const at = performance.now();
  if (action === "cart") visitor.cart[productId] = (visitor.cart[productId] ?? 0) + 1;
  else if (action === "buy") delete visitor.cart[productId];
  else visitor.seen[productId] = (visitor.seen[productId] ?? 0) + 1;
  remember();
  showTrail();
  if (pending.size >= MAX_PENDING) pending.delete(pending.keys().next().value);
  pending.set(eventId, { at, timer: setTimeout(() => unanswered(eventId), NO_CHANGE_AFTER_MS) });
  $("pulse").dataset.state = "waiting";
  try {
    await post("clicks", { event_id: eventId, user_id: visitor.id, action, product_id: productId });
    say("");
  } catch (problem) {
    settle(eventId);
    say(`That click was not counted. ${problem.message}`);
  }
}

function settle(eventId) {
  clearTimeout(pending.get(eventId)?.timer);
  pending.delete(eventId);
  if (!pending.size) $("pulse").dataset.state = "idle";
}

function unanswered(eventId) {
  settle(eventId);
  if (!pending.size) say("That click left the list as it was, so no email was sent.");
}

// A sold-out product leaves every answer within a second: the email is read again as if it were opened now.
async function changeStock(product) {
  const card = document.querySelector(`.product[data-product="${product.product_id}"]`);
  const sellsOut = !card.classList.contains("sold-out");
  try {
    await post("stock", { product_id: product.product_id, availability: sellsOut ? "out_of_stock" : "in_stock" });
  } catch (problem) {
    say(`The stock of ${product.title} did not change. ${problem.message}`);
    return;
  }
  card.classList.toggle("sold-out", sellsOut);
  const button = card.querySelector("[data-action=stock]");
  button.textContent = sellsOut ? "Restock" : "Sell out";
  button.setAttribute("aria-label", sellsOut ? `Restock ${product.title}` : `Let ${product.title} sell out`);
  await openAgain(product.product_id, sellsOut);
}

async function openAgain(productId, isGone) {
  const forVisitor = visitor.id;
  for (const until = performance.now() + OPEN_AGAIN_MS; performance.now() < until; ) {
    const response = await fetch(`worker/v1/users/${forVisitor}/recommendations?explain=true`);
    const answer = await response.json();
    if (visitor.id !== forVisitor || !response.ok || !lastData) return;
    const isIn = (list) => list.some((r) => r.product_id === productId);
    if (isGone ? isIn(answer.recommendations) : isIn(answer.removed)) {
      await new Promise((done) => setTimeout(done, 40));
      continue;
    }
    if (!platform) {
      // A platform's fields stay as they are until the next list.
      lastData = { ...lastData, recommendations: answer.recommendations };
      showLetter(lastData);
    }
    showReasons(answer);
    return;
  }
}

// ---- Why

async function explain() {
  if (!$("why").open) return;
  const forVisitor = visitor.id;
  const response = await fetch(`worker/v1/users/${forVisitor}/recommendations?explain=true`);
  if (response.ok && visitor.id === forVisitor) showReasons(await response.json());
}

function showReasons(answer) {
  const title = (id) => products.get(id)?.title ?? id;
  $("reasons").replaceChildren(
    ...answer.recommendations.slice(0, 8).map((r) => element("li", { "data-product": r.product_id }, element("strong", {}, title(r.product_id)), " ", element("span", {}, r.reason.text))),
  );
  $("left-out").hidden = !answer.removed?.length;
  $("left-out").querySelector("ul").replaceChildren(
    ...(answer.removed ?? []).slice(0, 6).map((r) => element("li", { "data-product": r.product_id }, element("strong", {}, title(r.product_id)), " ", element("span", {}, RULES[r.rule] ?? r.rule))),
  );
}

// ---- Where it went

// How each destination stands with this visitor, and how it is by itself, in words.
const STANDINGS = {
  confirmed: "has version", due: "is about to get version", in_flight: "is getting version", in_job: "is working on version",
  retrying: "will be tried again with version", withheld: "is not told, for want of consent", dead: "would not take version", blocked: "wants nothing of this person",
};

async function showDeliveries() {
  if (!$("sent").open) return;
  const forVisitor = visitor.id;
  const [mine, all] = await Promise.all([fetch(`worker/v1/users/${forVisitor}/deliveries`), fetch("worker/v1/destinations")]);
  if (!mine.ok || !all.ok || visitor.id !== forVisitor) return;
  const { deliveries } = await mine.json();
  const { destinations } = await all.json();
  $("deliveries").replaceChildren(...destinations.map((destination) => deliveryLine(destination, deliveries.find((d) => d.destination === destination.name))));
}

function deliveryLine(destination, delivery) {
  const version = delivery?.state === "confirmed" ? delivery.confirmed_version : delivery?.desired_version;
  const standing = delivery ? `${STANDINGS[delivery.state] ?? delivery.state}${["withheld", "blocked"].includes(delivery.state) ? "" : ` ${version}`}` : "has nothing of this visitor yet";
  const since = delivery?.confirmed_at ? `, last confirmed at ${new Date(delivery.confirmed_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })}` : "";
  const trouble = destination.state === "closed" ? "" : ` It takes nothing now: ${destination.cause ?? destination.state}${destination.reason ? `, ${destination.reason}` : ""}.`;
  return element(
    "li",
    { "data-destination": destination.name, "data-state": delivery?.state ?? "none" },
    element("strong", {}, destination.name), " ", element("span", {}, `${standing}${since}.${delivery?.last_error ? ` Last error: ${delivery.last_error}.` : ""}${trouble}`),
  );
}

// ---- The inbox

function listen() {
  stream?.close();
  const forVisitor = visitor.id;
  stream = new EventSource(`stream/${forVisitor}`);
  stream.onmessage = (message) => {
    if (visitor.id !== forVisitor) return;
    const email = JSON.parse(message.data);
    if (email.data.version >= shownVersion) showEmail(email);
  };
  stream.onopen = () => document.body.classList.remove("away");
  stream.onerror = () => document.body.classList.add("away");
}

function showEmail(email) {
  const changed = email.data.version !== shownVersion;
  shownVersion = email.data.version;
  if (changed) {
    lastData = email.data;
    showLetter(email.data);
    explain();
  }
  showDeliveries();
  showEvents(email.events);
  $("version").textContent = `Version ${email.data.version}`;
  const refused = email.inbox.bad_signatures;
  if (email.platform) {
    $("signature").textContent = refused ? `${refused} wrong keys refused` : `From the fields at ${platform}`;
    showFields(email.platform);
  } else $("signature").textContent = refused ? `${refused} bad signatures refused` : "Signature verified";
  $("signature").className = refused ? "refused" : "verified";
  if (email.answers) requestAnimationFrame(() => measure(email.answers));
  say("");
}

function showFields({ person, fields }) {
  $("held").hidden = false;
  $("held-title").textContent = `What ${platform} holds of ${person}`;
  $("held-fields").replaceChildren(...fields.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function showLetter(data) {
  const letter = compose(data);
  fadeText($("subject"), letter.subject);
  fadeText($("greeting"), letter.greeting);
  fadeText($("opening"), letter.opening);
  $("written").textContent = new Date(data.ranked_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  $("email").classList.remove("empty");
  $("email").dataset.version = data.version;
  const cart = new Map((data.profile?.cart ?? []).map((line) => [line.product_id, line.quantity]));
  renderBlocks(letter.blocks, cart);
  renderBasket(cart);
}

// The template: what the visitor's own clicks led to, what they looked at themselves, and what is popular; ranked order is kept inside each.
function compose({ recommendations, profile }) {
  const name = profile?.attributes?.first_name ?? visitor.name;
  const known = recommendations.filter((r) => products.has(r.product_id));
  const kind = (r) => r.reason.kind;
  const related = known.filter((r) => kind(r) === "also_viewed").slice(0, 4);
  const seen = known.filter((r) => ["seen_now", "seen_before"].includes(kind(r))).slice(0, 2);
  const popular = known.filter((r) => kind(r) === "trending").slice(0, Math.max(0, Math.min(5, 6 - related.length - seen.length)));
  // A platform's fields hold the products in their order, and no kinds of reasons.
  const held = known.filter((r) => kind(r) === "held").slice(0, 8);
  const lead = related[0] ?? seen[0] ?? popular[0] ?? held[0];
  const corner = lead ? families.get(products.get(lead.product_id).family_id).corner : "";
  const blocks = [
    { name: "related", title: "", list: related },
    { name: "seen", title: "Still on your mind?", list: seen },
    { name: "popular", title: related.length ? "And what others love" : "", list: popular },
    { name: "held", title: "", list: held },
  ].filter((block) => block.list.length);
  const opener = related.length ? products.get(related[0].reason.because_of || related[0].product_id) : null;
  return {
    subject: related.length || held.length ? `${name}, a few things for ${corner}` : seen.length ? `${name}, still thinking it over?` : `${name}, what others love just now`,
    greeting: `Hello ${name},`,
    opening: opener ? `${opener.title} caught your eye. These go well with it.` : seen.length ? "We kept your place. Here is where you left off." : held.length ? "Chosen for you, from what you looked at and what others did." : "Here is what other people look at just now. Open something in the shop, and this becomes yours.",
    blocks,
  };
}

function reasonText({ product_id, reason }, cart) {
  const because = products.get(reason.because_of)?.title;
  const times = reason.times_seen ?? 0;
  switch (reason.kind) {
    case "also_viewed":
      return because ? ["Because you viewed ", element("em", {}, because), ", and others who did viewed this"] : ["Others who viewed what you did viewed this"];
    case "seen_now":
      return [cart.has(product_id) ? "It is in your cart" : times > 2 ? `You looked at this ${times} times` : times === 2 ? "You looked at this twice" : "You looked at this just now"];
    case "seen_before":
      return [times > 1 ? `You came back to this ${times} times` : "You looked at this before"];
    case "trending":
      return ["Popular now"];
    default:
      return [reason.text ?? ""];
  }
}

function emailCard(recommendation, cart) {
  const product = products.get(recommendation.product_id);
  return element(
    "button",
    { class: "card", type: "button", "data-product": product.product_id, "data-kind": recommendation.reason.kind, onclick: () => send("email_click", product.product_id) },
    picture(product),
    element("span", { class: "words" }, element("span", { class: "title" }, product.title), element("span", { class: "reason" }, ...reasonText(recommendation, cart))),
    element("span", { class: "price" }, price(product)),
  );
}

// Cards that stay glide to their new place, new ones rise in: each starts from where the eye last saw it.
function renderBlocks(blocks, cart) {
  const root = $("blocks");
  const before = new Map([...root.querySelectorAll(".card")].map((card) => [card.dataset.product, card.getBoundingClientRect()]));
  const focused = document.activeElement?.closest?.("#blocks .card")?.dataset.product;
  root.replaceChildren(
    ...blocks.map((block) =>
      element("section", { class: `block ${block.name}` }, ...(block.title ? [element("h3", {}, block.title)] : []), ...block.list.map((r) => emailCard(r, cart))),
    ),
  );
  if (focused) root.querySelector(`.card[data-product="${focused}"]`)?.focus({ preventScroll: true });
  if (calm.matches) return;
  let fresh = 0;
  for (const card of root.querySelectorAll(".card")) {
    const was = before.get(card.dataset.product);
    const is = card.getBoundingClientRect();
    if (was) {
      const [x, y] = [was.left - is.left, was.top - is.top];
      if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
    } else {
      card.animate([{ opacity: 0, transform: "translateY(10px)" }, { opacity: 1, transform: "none" }], {
        duration: 420, delay: 35 * fresh++, easing: "ease-out", fill: "backwards",
      });
    }
  }
}

function renderBasket(cart) {
  const lines = [...cart].filter(([id]) => products.has(id)).map(([id, quantity]) => ({ product: products.get(id), quantity }));
  const names = lines.map(({ product, quantity }) => product.title + (quantity > 1 ? ` × ${quantity}` : ""));
  const cents = lines.reduce((sum, { product, quantity }) => sum + quantity * product.price_minor_units, 0);
  $("basket").replaceChildren(...(lines.length ? ["Waiting in your cart: ", element("strong", {}, names.join(", ")), `, ${money.format(cents / 100)}`] : []));
}

function fadeText(target, text) {
  if (target.textContent === text) return;
  target.textContent = text;
  if (!calm.matches) target.animate([{ opacity: 0.15 }, { opacity: 1 }], { duration: 380, easing: "ease-out" });
}

function showNoEmailYet() {
  $("email").classList.add("empty");
  delete $("email").dataset.version;
  $("subject").textContent = "Nothing to say yet";
  $("greeting").textContent = `${visitor.name} has not looked at anything.`;
  $("opening").textContent = "Open a product in the shop, and this email writes itself.";
  $("written").textContent = "";
  $("blocks").replaceChildren(...[0, 1, 2].map(() => element("div", { class: "ghost", "aria-hidden": "true" }, element("span", {}), element("span", {}))));
  $("basket").replaceChildren();
  $("version").textContent = "";
  $("signature").textContent = "";
  $("held").hidden = true;
  $("pulse").dataset.state = "idle";
}

// ---- What is measured

function measure(answers) {
  const elapsed = (id) => performance.now() - (pending.get(id)?.at ?? measured.get(id)?.at);
  const id = answers.event_id;
  if (pending.has(id)) {
    const { at } = pending.get(id);
    measured.set(id, { at, first: elapsed(id), last: elapsed(id) });
    // An answer to a later click answers those before it too.
    for (const earlier of [...pending.keys()]) {
      settle(earlier);
      if (earlier === id) break;
    }
  } else if (measured.has(id) && elapsed(id) - measured.get(id).first < REFINED_WITHIN_MS) {
    measured.get(id).last = elapsed(id);
  } else {
    return;
  }
  while (measured.size > MAX_MEASURED) measured.delete(measured.keys().next().value);
  const shown = measured.get(id).last;
  const all = [...measured.values()].map((m) => m.last).sort((a, b) => a - b);
  const middle = all[Math.floor(all.length / 2)];
  $("latency").textContent = Math.round(shown);
  $("latency-unit").textContent = "ms";
  $("pulse").dataset.latencyMs = Math.round(shown);
  $("median").title = `Of ${all.length} clicks`;
  $("median").textContent = all.length > 1 ? `Median ${Math.round(middle)} ms` : "";
  const steps = { accepted: answers.accepted_ms, ranked: answers.ranked_ms, received: answers.received_ms, shown };
  for (const [name, ms] of Object.entries(steps)) {
    const step = $(`step-${name}`);
    step.querySelector(".ms").textContent = ms === null ? "–" : `${Math.max(0, Math.round(ms))} ms`;
    if (!calm.matches) step.querySelector(".dot").animate([{ transform: "scale(1.7)" }, { transform: "none" }], { duration: 500, easing: "ease-out" });
  }
}

function showEvents(count) {
  $("events").textContent = `${count.toLocaleString("en")} events`;
}

function say(words) {
  $("notice").hidden = !words;
  $("notice").textContent = words;
}

// ---- Begin

const status = await (await fetch("status")).json();
platform = status.platform;

$("shop-name").textContent = shop.name;
$("tagline").textContent = shop.tagline;
$("from-name").textContent = shop.name;
$("from-address").textContent = shop.sender;
$("seal").textContent = shop.name[0];
$("signoff").textContent = `Warmly, ${shop.name}`;
document.title = `${shop.name} · Tidings`;
if (platform) {
  $("receiver").textContent = platform;
  $("truth").textContent = `The shop, its people and this ${platform} are invented. The rest is real: Kafka, the worker, its requests.`;
}
$("products").append(...catalog.products.map(shopCard));
$("why").addEventListener("toggle", explain);
$("sent").addEventListener("toggle", showDeliveries);
setInterval(showDeliveries, DELIVERIES_EVERY_MS);
$("new-visitor").addEventListener("click", newVisitor);
const known = JSON.parse(sessionStorage.getItem("visitor") ?? "null");
if (known) become(known);
else newVisitor();
showEvents(status.events);
