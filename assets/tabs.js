// The tabs of the page: the address says which one is open, so that a reload and Back keep it.
(() => {
  const LOOK_EVERY_MS = 1000;
  const LOOK_IDLE_MS = 10000;
  const SAY_EVERY_MS = 15000;
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  function show() {
    root.dataset.tab = location.hash.replace('#/', '') || 'create';
    document.querySelectorAll('#top nav a').forEach((link) => {
      const isOpen = (link.hash.replace('#/', '') || 'create') === root.dataset.tab;
      if (isOpen) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    });
    if (root.dataset.tab !== 'create') look();
    // What hid with its tab measures itself anew, such as a canvas.
    dispatchEvent(new Event('resize'));
  }

  // Models: the table comes when the tab opens, then the numbers while something is downloaded.
  let lookedAt = 0;
  function look() {
    lookedAt = Date.now();
    byId('models-look')?.click();
  }

  let saidAt = 0;
  let wasRunning = false;
  let failures = 0;
  function tick() {
    if (!document.querySelector('#top nav [aria-current]')) show();
    if (root.dataset.tab !== 'models' || document.hidden) return;
    const running = document.querySelector('#downloads [data-say]');
    const isSlow = !running && document.querySelector('#models table');
    if (Date.now() - lookedAt >= (isSlow ? LOOK_IDLE_MS : LOOK_EVERY_MS)) look();
    if (running && Date.now() - saidAt >= SAY_EVERY_MS) say(running.dataset.say);
    const failed = document.querySelectorAll('#models .failed').length;
    if (failed > failures) say('A download has failed. Its row says why.');
    else if (!running && wasRunning) say('The download has ended.');
    wasRunning = Boolean(running);
    failures = failed;
  }

  function say(text) {
    saidAt = Date.now();
    window.croquisSay?.(text);
  }

  document.addEventListener('click', (event) => {
    if (!event.target.closest('[data-event="choose"]')) return;
    location.hash = '#/';
    show();
    document.querySelector('#prompt textarea')?.focus();
  });
  addEventListener('hashchange', show);
  document.addEventListener('DOMContentLoaded', show);
  setInterval(tick, 500);
  show();
})();
