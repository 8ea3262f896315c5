// Shows one VM's screen with noVNC. The ticket stands behind the # of this page's address, which
// browsers send to nobody; it opens one console once, so it is taken out of the address at once.

const OPEN_AGAIN = "Open a new one from the API or the admin.";
const CLOSED = ["The console was closed", ""];
const NOT_OPENED = ["The console could not be opened", ""];
const NOT_REACHED = ["Izvor could not be reached", "Its server is away, or a proxy lets no websocket through."];
// What a close code means to a person: a title, and what is said below where the relay says nothing.
const ENDS = {
  1000: CLOSED,
  1006: ["The connection was lost", "The network or Izvor's server went away."],
  1012: ["Izvor is being restarted", "Its consoles end with it."],
  4401: ["This link opens nothing any more", "It was used already, or has expired."],
  4403: ["This is not allowed", ""],
  4404: ["The VM is gone", ""],
  4408: CLOSED,
  4409: ["The VM shows no console now", ""],
};

const part = (id) => document.getElementById(id);

function show(state, status) {
  document.body.dataset.state = state;
  part("status").textContent = status;
  part("keys").disabled = state !== "connected";
}

function tell(title, text) {
  const [heading, words] = part("notice").children;
  heading.textContent = title;
  words.textContent = text;
  part("notice").hidden = false;
}

function end({ code, reason }, wasOpen) {
  const wasShown = document.body.dataset.state === "connected";
  const known = ENDS[code] ?? (wasShown ? CLOSED : NOT_OPENED);
  const [title, otherwise] = code === 1006 && !wasOpen ? NOT_REACHED : known;
  show("ended", "Closed");
  tell(title, [reason || otherwise, OPEN_AGAIN].filter(Boolean).join(" "));
}

function takeTicket() {
  const ticket = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  return /^[\w-]+$/.test(ticket) ? ticket : "";
}

async function open(ticket) {
  const { default: RFB } = await import(document.body.dataset.novnc);
  const address = new URL("console/websocket", location);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, ["binary", `izvor.ticket.${ticket}`]);
  let wasOpen = false;
  socket.addEventListener("open", () => (wasOpen = true));
  socket.addEventListener("close", (event) => end(event, wasOpen));

  const rfb = new RFB(part("screen"), socket);
  rfb.background = "transparent";
  rfb.scaleViewport = true;
  rfb.addEventListener("connect", () => {
    show("connected", "Connected");
    rfb.focus();
  });
  rfb.addEventListener("desktopname", ({ detail }) => {
    const name = detail.name.replace(/^QEMU \((.+)\)$/, "$1");
    part("name").textContent = name;
    document.title = `${name} · Izvor`;
  });
  part("keys").addEventListener("click", () => {
    rfb.sendCtrlAltDel();
    rfb.focus();
  });
}

function offerFullScreen() {
  const button = part("full");
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () =>
    document.fullscreenElement
      ? document.exitFullscreen()
      : document.documentElement.requestFullscreen(),
  );
  document.addEventListener("fullscreenchange", () => {
    button.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
  });
}

offerFullScreen();
const ticket = takeTicket();
if (ticket) {
  show("connecting", "Connecting …");
  open(ticket).catch(() => {
    show("ended", "Closed");
    tell("The console could not be loaded", "A part of this page did not arrive. " + OPEN_AGAIN);
  });
} else {
  show("ended", "Closed");
  tell("This address opens nothing", "A console's address holds a ticket, which opens it once. " + OPEN_AGAIN);
}
