// A phone made with JsSIP. Every method settles within its time or rejects with a sentence.
import JsSIP from "jssip";

import { Inbox, MEDIA, countPackets, within } from "./phone.js";

export class JsSipPhone {
  constructor() {
    this.inbox = new Inbox();
    this.session = null;
  }

  register({ server, uri, user, password, expires = 600 }) {
    this.agent = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(server)],
      uri, password, authorization_user: user, register_expires: expires, session_timers: false,
    });
    this.agent.on("newRTCSession", ({ originator, session }) => this.#begin(originator, session));
    this.agent.on("newMessage", ({ originator, request }) => {
      if (originator === "remote") this.inbox.add(request.from.uri.toString(), request.body);
    });
    return within(new Promise((resolve, reject) => {
      this.agent.on("registered", ({ response }) => resolve(`${response.status_code}`));
      this.agent.on("registrationFailed", ({ response, cause }) => reject(new Error(`${response?.status_code} ${cause}`)));
      this.agent.start();
    }), "registration");
  }

  call(target) {
    const session = this.agent.call(target, { mediaConstraints: MEDIA, pcConfig: { iceServers: [] } });
    return within(this.#established(session), "established call");
  }

  inCall() {
    return within(this.incoming, "established call");
  }

  media() {
    return countPackets(this.session.connection);
  }

  hangup() {
    this.session.terminate();
    return within(this.ended, "end of the call");
  }

  waitEnded() {
    return within(this.ended, "end of the call");
  }

  message(target, text) {
    return within(new Promise((resolve, reject) => {
      this.agent.sendMessage(target, text, {
        eventHandlers: {
          succeeded: ({ response }) => resolve(`${response.status_code}`),
          failed: ({ response, cause }) => reject(new Error(`${response?.status_code} ${cause}`)),
        },
      });
    }), "answer to the MESSAGE");
  }

  unregister() {
    return within(new Promise((resolve) => {
      this.agent.on("unregistered", ({ response }) => resolve(`${response?.status_code}`));
      this.agent.unregister();
    }), "end of the registration");
  }

  #begin(originator, session) {
    this.session = session;
    this.ended = new Promise((resolve) => {
      session.on("ended", ({ cause }) => resolve(cause));
      session.on("failed", ({ cause }) => resolve(cause));
    });
    if (originator === "remote") {
      this.incoming = this.#established(session);
      session.answer({ mediaConstraints: MEDIA, pcConfig: { iceServers: [] } });
    }
  }

  #established(session) {
    return new Promise((resolve, reject) => {
      session.on("confirmed", () => resolve("established"));
      session.on("failed", ({ message, cause }) => reject(new Error(`${message?.status_code ?? ""} ${cause}`)));
    });
  }
}
