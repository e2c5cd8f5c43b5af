// A program that somebody writes with a client that was generated from /v1/openapi.json. It is compiled strictly: what the document says of types has to
// be enough. Started with the node's URL and the administrator's token, it prints what went wrong, or nothing.
import { client } from "./generated/client.gen.js";
import * as api from "./generated/index.js";

declare const process: { argv: string[]; exitCode: number };

function want<T>(what: string, got: T, wanted: T): void {
	if (got !== wanted) {
		console.log(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(wanted)}`);
		process.exitCode = 1;
	}
}

/** The data of a success; else the program ends with the problem. */
function must<D>(answer: { data?: D; error?: unknown }): D {
	if (answer.data === undefined) {
		throw new Error(JSON.stringify(answer.error));
	}
	return answer.data;
}

const [baseUrl, token] = process.argv.slice(2);
client.setConfig({ baseUrl, auth: token });

const project = must(await api.createProject({ body: { name: "Shop", settings: { joinsPerDay: 5 } } }));
want("a setting", project.settings.joinsPerDay, 5);
const path = { project: project.id };

// Idempotency: the same request again does nothing and has the same answer.
const headers = { "Idempotency-Key": "order 66" };
const body = { kind: "server", name: "app", cidrs: ["127.0.0.0/8", "::1"] } as const;
const key = must(await api.createKey({ path, body: { ...body, cidrs: [...body.cidrs] }, headers }));
const again = must(await api.createKey({ path, body: { ...body, cidrs: [...body.cidrs] }, headers }));
want("the key of the same request", again.key, key.key);
const conflict = await api.createKey({ path, body: { ...body, name: "other", cidrs: ["::1"] }, headers });
want("another request", conflict.error?.code, "idempotency_conflict");

// Pages: all names, each once.
for (let i = 0; i < 7; i++) {
	must(await api.createChannel({ body: { project: project.id, name: `room${i}` } }));
}
const names: string[] = [];
let cursor: string | undefined;
do {
	const page = must(await api.listChannels({ query: { project: project.id, limit: 3, cursor } }));
	names.push(...page.items.map((c) => c.name));
	cursor = page.next;
} while (cursor);
want("the names", names.join(), "room0,room1,room2,room3,room4,room5,room6");

// Problems: RFC 9457, with codes and places.
const bad = await api.updateChannel({ path: { channel: "room0" }, query: path, body: { capacity: -1 } });
want("a bad field's status", bad.response?.status, 422);
want("a bad field's type", bad.response?.headers.get("content-type"), "application/problem+json");
want("a bad field's code", bad.error?.code, "invalid_field");
want("a bad field's place", bad.error?.errors?.[0]?.location, "body.capacity");
want("nothing", (await api.getProject({ path: { project: "nobody" } })).error?.code, "not_found");

// Versions.
const seen = await api.getProject({ path });
const etag = seen.response?.headers.get("etag") ?? "";
const changed = await api.updateProject({ path, body: { name: "Shop 2" }, headers: { "If-Match": etag } });
want("a change", changed.data?.name, "Shop 2");
const late = await api.updateProject({ path, body: { name: "Shop 3" }, headers: { "If-Match": etag } });
want("a late change", late.error?.code, "conflict");

// With the server key, what an application does.
client.setConfig({ baseUrl, auth: key.key });
const made = must(await api.createToken({ body: { channels: ["room0"], uid: "u1", role: "host" } }));
want("a token's parts", made.token.split(".").length, 3);
const turn = must(await api.createTurnCredentials({ body: { name: "u1" } }));
want("TURN addresses", turn.uris.length > 0, true);
want("others' business", (await api.createProject({ body: { name: "x" } })).error?.code, "forbidden");
want(
	"a command to nobody",
	(await api.sendCommand({ path: { channel: "room0" }, body: { name: "x" } })).error?.code,
	"channel_not_found",
);
want("the settings", must(await api.listProjects()).items.length, 1);

client.setConfig({ baseUrl, auth: token });
want("a deletion", (await api.deleteProject({ path })).response?.status, 204);
