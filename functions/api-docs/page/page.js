// Shows the API's description, and signs people in with the deployment's user pool, so that their calls have a token.
"use strict";

const TOKEN = "accessToken"; // the security scheme's name in openapi.json
const { client, identity } = document.body.dataset;
const form = document.getElementById("sign-in");
const signedIn = document.getElementById("signed-in");
const message = document.getElementById("message");

let viewer;
let expiry; // the timer that ends with the token

// The viewer has a dark theme, but leaves it to the page to turn it on.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

async function show() {
  const spec = await (await fetch("openapi.json")).json();
  // Generators need media types with which nothing is answered (see EXACT in tests/src/openapi.rs). Readers do not.
  for (const { content } of Object.values(spec.components.responses)) {
    for (const [type, media] of Object.entries(content)) if (media["x-exact-schema"] === false) delete content[type];
  }
  for (const operation of Object.values(spec.paths).flatMap(Object.values)) {
    // The viewer fills fields with examples. In an optional field an example would be sent with every call.
    for (const parameter of operation.parameters ?? []) if (!parameter.required) delete parameter.example;
  }
  viewer = SwaggerUIBundle({
    spec,
    domNode: document.getElementById("viewer"),
    deepLinking: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    syntaxHighlight: { theme: "tomorrow-night" }, // the default's red numbers are hard to read
    validatorUrl: null,
  });
}

show().then(
  () => form.querySelector("button").disabled = false,
  (error) => say(`The description cannot be shown: ${error.message}`, true),
);

function say(text, refused) {
  message.textContent = text;
  message.classList.toggle("refused", refused);
}

// Cognito's InitiateAuth, which needs no key, because the client is a public one.
async function signIn(email, password) {
  const answer = await fetch(identity, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth",
    },
    body: JSON.stringify({
      AuthFlow: "USER_PASSWORD_AUTH",
      ClientId: client,
      AuthParameters: { USERNAME: email, PASSWORD: password },
    }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message || `Cognito answered ${answer.status}.`);
  if (!body.AuthenticationResult) throw new Error(`Cognito asks for ${body.ChallengeName} first: this page cannot answer it.`);
  return body.AuthenticationResult;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { email, password } = form.elements;
  try {
    const { AccessToken, ExpiresIn } = await signIn(email.value, password.value);
    viewer.preauthorizeApiKey(TOKEN, AccessToken);
    const until = new Date(Date.now() + ExpiresIn * 1000).toLocaleTimeString();
    document.getElementById("who").textContent = email.value;
    form.hidden = true;
    signedIn.hidden = false;
    expiry = setTimeout(() => signOut("The token has expired: sign in again to call as yourself."), ExpiresIn * 1000);
    say(`Calls are made as you until ${until}.`, false);
  } catch (error) {
    say(error.message, true);
  } finally {
    password.value = "";
  }
});

function signOut(text) {
  clearTimeout(expiry);
  viewer.authActions.logout([TOKEN]);
  form.hidden = false;
  signedIn.hidden = true;
  say(text, false);
}

document.getElementById("sign-out").addEventListener("click", () => signOut("You are not signed in any more."));
