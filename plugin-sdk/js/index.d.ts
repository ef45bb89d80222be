/** What a call has besides its argument. */
export interface Context<Settings = any> {
  /** The settings of this version, `{}` where there are none. */
  readonly settings: Settings;
}

/** Who wrote a message. */
export type Origin = "human" | "bot" | "ai" | "automation" | "system";

/** One outbound message, before it is signed and delivered. */
export interface Message<Payload = any> {
  /** Its id, `msg_…`. */
  readonly id: string;
  /** Its event type, for example `message.inbound`. */
  readonly eventType: string;
  /** When it was published: UTC as RFC 3339 with milliseconds, for example `2026-06-30T17:40:00.000Z`. */
  readonly createdAt: string;
  readonly origin: Origin;
  /** How it travelled, for example `sms` or `textchat`, where the platform says so. */
  readonly medium?: string;
  /** The channels that it was published to; empty means all. */
  readonly channels: readonly string[];
  /** What would be delivered without a plugin, parsed when it is first looked at. */
  readonly payload: Payload;
  /** The same as JSON text, with numbers as they were sent. */
  readonly payloadText: string;
}

/** What becomes of a message; made by `unchanged`, `replaced`, `replacedText` or `dropped`. */
export type Reshaped =
  | { readonly kind: "unchanged" }
  | { readonly kind: "replaced"; readonly text: string }
  | { readonly kind: "dropped"; readonly reason: string };

/** One HTTP header of the sender's request; one that came several times is several. */
export interface Header {
  /** The name in lower case. */
  readonly name: string;
  readonly value: string;
}

/** The inbound connection at which an event arrived. */
export interface Source {
  /** Its id, `src_…`. */
  readonly id: string;
  readonly name: string;
  /** The webhook system that it follows, for example `standard`. */
  readonly profile: string;
}

/** One accepted request to a source. */
export interface InboundEvent<Payload = any> {
  /** Its id, `evt_…`. */
  readonly id: string;
  readonly source: Source;
  /** When it was accepted: UTC as RFC 3339 with milliseconds. */
  readonly receivedAt: string;
  /** The headers that the source is configured to hand on; never a credential. */
  readonly headers: readonly Header[];
  /** The body, parsed when it is first looked at: an object or array. */
  readonly payload: Payload;
  /** The same as JSON text, with numbers as they were sent. */
  readonly payloadText: string;
}

/** An enabled automation rule of the tenant. */
export interface Rule {
  /** What a match names; unique within the tenant. */
  readonly key: string;
  readonly name: string;
  /** The event type that the rule waits for, for example `job_completed`. */
  readonly trigger: string;
}

/** The person whom an event is about. Leave out what the payload doesn't tell. */
export interface Contact {
  /** The sender's own id for the person. */
  id?: string | null;
  /** Full name. */
  name?: string | null;
  /** Phone number, best in E.164 (`+18883213212`); the gateway checks it where a rule needs one. */
  phone?: string | null;
  email?: string | null;
}

/** One rule that an event matches, and what its message is about. */
export interface RuleMatch {
  /** The key of a rule. */
  rule: string;
  contact?: Contact;
  /** What the rule's condition and message may use. */
  variables?: object;
}

/** A plugin that reshapes. */
export interface Reshaper<Payload = any, Settings = any> {
  reshape(message: Message<Payload>, context: Context<Settings>): Reshaped;
}

/** A plugin that maps. */
export interface Mapper<Payload = any, Settings = any> {
  map(event: InboundEvent<Payload>, rules: readonly Rule[], context: Context<Settings>): RuleMatch[];
}

/** The payload is invalid or not meant for this plugin: the sender's fault. Anything else that is thrown is the author's. */
export class InvalidPayload extends Error {}

/** A plugin that reshapes outbound messages; the module's default export. */
export function defineReshaper<Payload = any, Settings = any>(
  reshape: Reshaper<Payload, Settings>["reshape"],
): Reshaper<Payload, Settings>;

/** A plugin that maps inbound events to the tenant's rules; the module's default export. */
export function defineMapper<Payload = any, Settings = any>(
  map: Mapper<Payload, Settings>["map"],
): Mapper<Payload, Settings>;

/** Deliver the message as it is. */
export function unchanged(): Reshaped;

/** Deliver this object instead. */
export function replaced(body: object): Reshaped;

/** Deliver this JSON text instead, byte for byte: for numbers beyond 2^53, which JavaScript would round. */
export function replacedText(text: string): Reshaped;

/** Don't deliver the message; the text says why, for the tenant's eyes. */
export function dropped(reason: string): Reshaped;

/** The rules that wait for an event type. */
export function rulesFor(rules: readonly Rule[], trigger: string): Rule[];

declare global {
  /** Writes lines into the log of the call. */
  interface Console {
    debug(...values: any[]): void;
    log(...values: any[]): void;
    info(...values: any[]): void;
    warn(...values: any[]): void;
    error(...values: any[]): void;
  }
  var console: Console;
}
