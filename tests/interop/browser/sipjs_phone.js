// A phone made with SIP.js. Every method settles within its time or rejects with a sentence.
import { Inviter, Messager, Registerer, RegistererState, SessionState, UserAgent } from "sip.js";

import { Inbox, MEDIA, countPackets, within } from "./phone.js";

export class SipJsPhone {
  constructor() {
    this.inbox = new Inbox();
    this.session = null;
  }

  async register({ server, uri, user, password, expires = 600 }) {
    this.agent = new UserAgent({
      uri: UserAgent.makeURI(uri),
      transportOptions: { server },
      authorizationUsername: user,
      authorizationPassword: password,
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
      delegate: {
        onInvite: (invitation) => this.#answer(invitation),
        onMessage: (message) => {
          this.inbox.add(message.request.from.uri.toString(), message.request.body);
          return message.accept();
        },
      },
      logLevel: "warn",
    });
    await within(this.agent.start(), "connection");
    this.registerer = new Registerer(this.agent, { expires });
    return within(new Promise((resolve, reject) => {
      this.registerer.register({
        requestDelegate: {
          onAccept: ({ message }) => resolve(`${message.statusCode}`),
          onReject: ({ message }) => reject(new Error(`${message.statusCode} ${message.reasonPhrase}`)),
        },
      });
    }), "registration");
  }

  async call(target) {
    const inviter = new Inviter(this.agent, UserAgent.makeURI(target), {
      sessionDescriptionHandlerOptions: { constraints: MEDIA },
    });
    this.#begin(inviter);
    const refused = new Promise((_, reject) => {
      inviter.invite({
        requestDelegate: {
          onReject: ({ message }) => reject(new Error(`${message.statusCode} ${message.reasonPhrase}`)),
        },
      }).catch(reject);
    });
    return within(Promise.race([this.established, refused]), "established call");
  }

  inCall() {
    return within(this.established, "established call");
  }

  media() {
    return countPackets(this.session.sessionDescriptionHandler.peerConnection);
  }

  async hangup() {
    await this.session.bye();
    return within(this.ended, "end of the call");
  }

  waitEnded() {
    return within(this.ended, "end of the call");
  }

  message(target, text) {
    const messager = new Messager(this.agent, UserAgent.makeURI(target), text);
    return within(new Promise((resolve, reject) => {
      messager.message({
        requestDelegate: {
          onAccept: ({ message }) => resolve(`${message.statusCode}`),
          onReject: ({ message }) => reject(new Error(`${message.statusCode} ${message.reasonPhrase}`)),
        },
      });
    }), "answer to the MESSAGE");
  }

  unregister() {
    return within(new Promise((resolve) => {
      this.registerer.stateChange.addListener((state) => {
        if (state === RegistererState.Unregistered) resolve("200");
      });
      this.registerer.unregister();
    }), "end of the registration");
  }

  #answer(invitation) {
    this.#begin(invitation);
    invitation.accept({ sessionDescriptionHandlerOptions: { constraints: MEDIA } });
  }

  #begin(session) {
    this.session = session;
    const reached = (wanted) => new Promise((resolve) => {
      session.stateChange.addListener((state) => {
        if (state === wanted) resolve(state);
      });
    });
    this.established = reached(SessionState.Established);
    this.ended = reached(SessionState.Terminated);
  }
}
