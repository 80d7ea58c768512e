// The form is the visitor's: no answer replaces what was typed or chosen after its question.
// Every change and every question takes the next number of one clock; the later one wins.
(() => {
  const textOf = (value) => JSON.stringify(value ?? '');

  function makeForm(initial) {
    const names = Object.keys(initial);
    const named = (values) => Object.fromEntries(names.map((name, i) => [name, values[i]]));
    const known = Object.fromEntries(names.map((name) => [name, textOf(initial[name])]));
    const changedAt = Object.fromEntries(names.map((name) => [name, 0]));
    let now = 0;
    let fittedAt = 0;

    // What is not as the page itself put it there, the visitor has changed.
    function see(values) {
      now += 1;
      for (const [name, value] of Object.entries(values)) {
        if ((known[name] ?? textOf(null)) === textOf(value)) continue;
        known[name] = textOf(value);
        changedAt[name] = now;
      }
    }

    function put(name, value, asked) {
      known[name] = textOf(value);
      changedAt[name] = asked;
      return value;
    }

    return {
      see,

      // At load: what was kept comes back without waiting for the server. Returns all values.
      restore(saved, values) {
        see(named(values));
        const back = names.map((name, i) => {
          const isKept = typeof saved?.[name] === typeof initial[name] && saved[name] !== null;
          return isKept && !changedAt[name] ? put(name, saved[name], 0) : values[i];
        });
        window.croquisIsBack = true;
        return [named(back), ...back];
      },

      // After each change. Returns what to keep: nothing new before the kept form is back.
      keep(saved, values) {
        see(named(values));
        return window.croquisIsBack ? named(values) : saved;
      },

      // Before a question goes to the server, with the values that go with it.
      ask(sent, values) {
        see(Object.fromEntries(sent.map((name, i) => [name, values[i]])));
        now += 1;
        return String(now);
      },

      // An answer. Returns an update for each of the parts.
      fill(answer, parts) {
        const { asked: time, values, fit } = JSON.parse(answer);
        const asked = Number(time);
        const isFit = fit && asked >= fittedAt;
        if (isFit) fittedAt = asked;
        return parts.map((part) => {
          const update = { __type__: 'update' };
          // The value first: Gradio sets that one at once, the others a moment later.
          if (part in values && asked >= (changedAt[part] ?? 0)) {
            update.value = put(part, values[part], asked);
          }
          return isFit ? Object.assign(update, fit[part]) : update;
        });
      },
    };
  }

  let form = null;
  window.croquisForm = (initial) => (form ??= makeForm(initial));
})();
