// Runs in the page: one phone, told what to do by driver.js.
import { JsSipPhone } from "./jssip_phone.js";
import { SipJsPhone } from "./sipjs_phone.js";

const PHONES = { jssip: JsSipPhone, sipjs: SipJsPhone };

window.openPhone = (library) => { window.phone = new PHONES[library](); };
window.ask = async (method, parameters) => {
  if (method === "nextMessage") return window.phone.inbox.next();
  return (await window.phone[method](...parameters)) ?? null;
};
