// Under the prompt: how much of what the model reads at once it takes, asked when typing rests.
(() => {
  const REST_MS = 300;
  const MAX_CHARACTERS = 10000;
  let asked = 0;
  let timer = null;

  function textOf(said) {
    if (!said) return '';
    const { tokens, room, is_cut: isCut } = said;
    if (isCut) return `${tokens} of ${room} word parts: the end is left out`;
    return tokens > room ? `${tokens} word parts, read in pieces of ${room}` : `${tokens} of ${room} word parts`;
  }

  function show(said) {
    const place = document.getElementById('prompt-count');
    if (!place) return;
    place.textContent = textOf(said);
    place.toggleAttribute('data-cut', Boolean(said?.is_cut));
    // Heard once, when the prompt becomes too long; the numbers are for the eye.
    const voice = document.getElementById('prompt-cut');
    const heard = said?.is_cut ? `The prompt is too long: this model reads ${said.room} word parts of it.` : '';
    if (voice.textContent !== heard) voice.textContent = heard;
  }

  async function ask(number, question) {
    let said = null;
    try {
      const answer = await fetch('count', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(question),
      });
      if (answer.ok) said = await answer.json();
    } catch { /* no connection: page.js tells */ }
    if (number === asked) show(said);
  }

  window.croquisCount = (prompt, model, syntax) => {
    clearTimeout(timer);
    asked += 1;
    const number = asked;
    const text = prompt ?? '';
    if (!text.trim() || text.length > MAX_CHARACTERS || !navigator.onLine) return show(null);
    const question = { prompt: text, model: model ?? '', prompt_syntax: syntax ?? '' };
    timer = setTimeout(() => ask(number, question), REST_MS);
  };
})();
