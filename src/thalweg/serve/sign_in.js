"use strict";
(() => {
  // A token in the address' fragment never leaves the browser but in the header below.
  async function enter(token) {
    const answer = await fetch("/session", { headers: { Authorization: `Bearer ${token}` } });
    if (answer.ok) location.reload();
    else document.getElementById("said").textContent = "That is not the token.";
  }
  document.querySelector("form").addEventListener("submit", event => {
    event.preventDefault();
    enter(document.getElementById("token").value.trim());
  });
  function given() {
    const token = location.hash.slice(1);
    if (!token) return;
    history.replaceState(null, "", location.pathname);
    enter(token);
  }
  addEventListener("hashchange", given);
  given();
})();
