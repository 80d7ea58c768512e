// Keys, copying, and what a screen reader hears. Everything else is drawn by Python.
(() => {
  const SAY_EVERY_MS = 4000;
  const LOOK_EVERY_MS = 2000;
  const byId = (id) => document.getElementById(id);
  const isTyping = (element) =>
    element.closest('input, textarea, select, canvas, [contenteditable], [role="listbox"]') !== null;

  function press(id) {
    const button = byId(id);
    if (button && !button.disabled) button.click();
  }

  // Arrow keys walk the visitor's pictures, newest first.
  function walk(by) {
    const pictures = [...document.querySelectorAll('.strip [data-event="pick"]')];
    const now = pictures.findIndex((button) => button.hasAttribute('aria-current'));
    const next = pictures[now < 0 ? 0 : now + by];
    if (!next) return;
    next.click();
    next.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  document.addEventListener('keydown', (event) => {
    // On another tab they mean nothing; `?` lists them everywhere.
    if (document.documentElement.dataset.tab !== 'create' && event.key !== '?') return;
    const open = document.querySelector('#keys:popover-open');
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      press('create');
    } else if (event.key === 'Escape') {
      if (!open && !document.querySelector('ul.options, [role="listbox"]')) press('stop');
    } else if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    } else if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
      event.preventDefault();
      walk(event.key === 'ArrowLeft' ? -1 : 1);
    } else if (event.key === '?') {
      byId('keys')?.togglePopover();
    }
  }, true);

  document.addEventListener('click', (event) => {
    const picked = event.target.closest('[data-event="pick"]');
    if (picked) {
      // Mark it at once; the server's answer says the same.
      document.querySelectorAll('.strip [aria-current]').forEach((one) => one.removeAttribute('aria-current'));
      document.querySelectorAll(`.strip [data-value="${picked.dataset.value}"]`)
        .forEach((one) => one.setAttribute('aria-current', 'true'));
    }
    const opened = event.target.closest('[aria-controls="settings"]');
    opened?.setAttribute('aria-expanded', String(opened.getAttribute('aria-expanded') !== 'true'));
    const copied = event.target.closest('[data-copy]');
    if (copied) {
      const before = copied.innerHTML;
      navigator.clipboard?.writeText(copied.dataset.copy).then(() => {
        copied.textContent = 'Copied';
        say(`Seed ${copied.dataset.copy} copied`);
        setTimeout(() => { copied.innerHTML = before; }, 1200);
      });
    }
  });

  // What is typed in the list of models searches it, in the place of the name that is chosen.
  document.addEventListener('click', (event) => {
    if (event.target.matches('#model input')) event.target.select();
  });
  // Tab leaves a list and closes it: Gradio would open it once more, for good, over the page.
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Tab' || !event.target.matches('[role="combobox"]')) return;
    event.stopPropagation();
    document.querySelectorAll('.option-list').forEach((list) => { list.tabIndex = -1; });
  }, true);

  // A thing that turns can be stopped, and turned by who asked for less motion.
  document.addEventListener('click', (event) => {
    const figure = event.target.closest('[data-turn]')?.closest('figure');
    if (!figure) return;
    const place = figure.querySelector('picture');
    const shown = place.querySelector('img');
    const turns = new URL(shown.currentSrc).pathname.endsWith('.gif');
    place.querySelector('source')?.remove();
    shown.src = turns ? place.dataset.still : place.dataset.turning;
  });

  // Say at once that a click was heard; the server's answer takes the mark away.
  const ASKS = '#create, #stop, #last-seed, [data-event]';
  document.addEventListener('click', (event) => {
    event.target.closest(ASKS)?.setAttribute('data-heard', '');
    const picked = event.target.closest('[data-event="pick"]');
    if (picked) window.croquisPicked = picked.dataset.value;
  }, true);
  new PerformanceObserver((list) => {
    const answers = list.getEntries().filter((entry) => entry.name.includes('/gradio_api/run/'));
    if (!answers.length) return;
    document.querySelectorAll('[data-heard]').forEach((one) => one.removeAttribute('data-heard'));
    if (answers.some((entry) => entry.responseStatus === 0)) checkConnection(true);
  }).observe({ type: 'resource' });

  // One polite voice, every few seconds at most.
  let voice = null;
  let lastSaid = 0;
  window.croquisSay = say;
  function say(text) {
    if (!voice) {
      voice = document.createElement('div');
      voice.id = 'voice';
      voice.className = 'sr-only';
      voice.setAttribute('role', 'status');
      document.querySelector('.gradio-container')?.append(voice);
    }
    voice.textContent = text;
    lastSaid = Date.now();
  }

  // While a run is watched, or after a click without an answer, notice a lost connection; the
  // page is loaded again when the server is back, and finds form, run and pictures as they were.
  let lost = false;
  async function checkConnection(doubted) {
    if (!doubted && !lost && !document.querySelector('#progress [data-say]')) return;
    try {
      await fetch('robots.txt', { cache: 'no-store', signal: AbortSignal.timeout(20000) });
      if (lost) location.reload();
    } catch {
      lost = true;
      byId('connection').textContent = 'No connection. What you wrote is kept and what runs goes on. Reconnecting.';
    }
  }
  setInterval(() => checkConnection(false), 3000);
  addEventListener('offline', () => { lost = true; checkConnection(true); });
  addEventListener('online', () => checkConnection(false));

  // A visitor who comes back to an idle page sees what another tab has begun or drawn meanwhile.
  let lookedAt = 0;
  function lookAgain() {
    const isIdle = window.croquisIsBack && !document.querySelector('#progress [data-say]');
    if (document.hidden || !isIdle || Date.now() - lookedAt < LOOK_EVERY_MS) return;
    lookedAt = Date.now();
    byId('look-again')?.click();
  }
  document.addEventListener('visibilitychange', lookAgain);

  let wasRunning = false;
  setInterval(() => {
    const said = document.querySelector('#progress [data-say]');
    if (said && Date.now() - lastSaid >= SAY_EVERY_MS) say(said.dataset.say);
    if (!said && wasRunning) say(document.querySelector('.sheet h2')?.textContent || 'The picture is there');
    wasRunning = Boolean(said);
    // The viewer would be the first of the page's stops for the Tab key, and it has no name.
    document.querySelectorAll('#mesh canvas:not([tabindex="0"])').forEach((canvas) => {
      canvas.tabIndex = 0;
      canvas.setAttribute('role', 'application');
      canvas.setAttribute('aria-label', 'The mesh. Arrow keys turn it.');
    });
  }, 500);
})();
