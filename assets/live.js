// Drawing while the visitor types: when to ask for a sketch, and when one may be seen.
// The questions have numbers; a sketch that was asked for before it was put away stays away.
(() => {
  const PAUSE_MS = 120;
  const AGAIN_MS = 200;
  const PATIENCE_MS = 700;  // an answer that changes nothing is not heard of
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const newSeed = () => String(Math.floor(Math.random() * 2 ** 32));
  let isOn = false;
  let seed = newSeed();
  let clock = 0;
  let hiddenAt = 0;
  let timer = null;
  let answered = 0;
  let askedAt = 0;
  let isAsking = false;

  const isRunning = () => document.querySelector('#progress [data-say]') !== null;

  function askSoon(pause) {
    timer ??= setTimeout(() => {
      timer = null;
      // A run has the stage; what is typed meanwhile is sketched with the next change.
      if (!isOn || isRunning()) return;
      // One question at a time: what is typed meanwhile is asked once the answer is there.
      const rest = askedAt + PATIENCE_MS - performance.now();
      if (answered < clock && rest > 0) {
        isAsking = true;
        setTimeout(goOn, rest);
      } else byId('sketch-ask')?.click();
    }, pause);
  }

  function goOn() {
    if (isAsking) askSoon(0);
    isAsking = false;
  }

  function hide() {
    hiddenAt = clock;
    delete root.dataset.sketch;
  }

  function withSeed(names, values) {
    const place = names.indexOf('seed');
    return values.map((value, i) => (isOn && i === place && !String(value ?? '').trim() ? seed : value));
  }

  window.croquisLive = {
    turn(on) {
      if (on && !isOn) seed = newSeed();
      isOn = Boolean(on);
      if (isOn) return askSoon(0);
      hide();
      byId('sketch-ask')?.click();  // the server calls it off
    },

    changed() {
      if (isOn) askSoon(PAUSE_MS);
    },

    // Random: another picture of the same words.
    reseed() {
      seed = newSeed();
      if (isOn) askSoon(0);
    },

    // Before a question leaves: its number, and the seed that stays the same while one types.
    ask(names, values) {
      clock += 1;
      askedAt = performance.now();
      return withSeed(names, values).map((value, i) => (names[i] === 'asked' ? String(clock) : value));
    },

    // Before Create leaves: it draws what is seen, from the same seed.
    create: withSeed,

    // An answer has arrived.
    shown(html) {
      const asked = Number(/data-asked="(\d+)"/.exec(html ?? '')?.[1] ?? 0);
      if (isOn && asked > hiddenAt) root.dataset.sketch = '';
      else if (!asked) delete root.dataset.sketch;
      answered = clock;
      goOn();
    },

    // The server has said why there is no sketch yet.
    noted(html) {
      const asked = Number(/data-again="(\d+)"/.exec(html ?? '')?.[1] ?? 0);
      answered = clock;
      if (asked && asked === clock) askSoon(AGAIN_MS);
      else goOn();
    },

    hide,
  };

  // Whatever puts another picture onto the stage puts the sketch away.
  document.addEventListener('click', (event) => {
    const asks = event.target.closest('#create, [data-event]');
    if (!asks || asks.dataset.event === 'undo') return;
    const isInside = asks.closest('#sketch-line') !== null;
    hide();
    if (isInside) document.querySelector('#prompt textarea')?.focus();
  });
})();
