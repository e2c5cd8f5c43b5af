// Generated from internal/refusal/codes.json by `go generate ./internal/refusal`; do not edit.

/** What helps after a refusal. */
export type Retry = "never" | "later" | "resume" | "join";

/** Every reason for which a server refuses something, with what helps and a sentence in both languages. */
export const codes = {
	malformed: {
		retry: "never",
		en: "The message is not valid JSON of the expected form.",
		ko: "메시지가 올바른 형식의 JSON이 아닙니다.",
	},
	unknown_type: {
		retry: "never",
		en: "The server does not know this type of message.",
		ko: "서버가 모르는 종류의 메시지입니다.",
	},
	invalid_field: {
		retry: "never",
		en: "A field has a value that is not allowed.",
		ko: "허용되지 않는 값이 들어 있습니다.",
	},
	message_too_big: {
		retry: "never",
		en: "The message is larger than 64 KiB.",
		ko: "메시지가 64KiB보다 큽니다.",
	},
	out_of_order: {
		retry: "resume",
		en: "A numbered message is missing.",
		ko: "번호가 빠진 메시지가 있습니다.",
	},
	join_first: {
		retry: "join",
		en: "The first message must be join or resume.",
		ko: "첫 메시지는 join 또는 resume이어야 합니다.",
	},
	already_joined: {
		retry: "never",
		en: "This link has joined a channel already.",
		ko: "이미 채널에 참가한 연결입니다.",
	},
	handshake_timeout: {
		retry: "later",
		en: "No join or resume came in time.",
		ko: "제때 참가 요청이 오지 않았습니다.",
	},
	version_unsupported: {
		retry: "never",
		en: "The server does not speak this version of the protocol.",
		ko: "서버가 지원하지 않는 프로토콜 버전입니다.",
	},
	credentials_missing: {
		retry: "never",
		en: "A token or a key is needed.",
		ko: "토큰이나 키가 필요합니다.",
	},
	token_malformed: {
		retry: "never",
		en: "The access token cannot be read.",
		ko: "접근 토큰을 읽을 수 없습니다.",
	},
	token_signature: {
		retry: "never",
		en: "The access token's signature is wrong.",
		ko: "접근 토큰의 서명이 올바르지 않습니다.",
	},
	token_expired: {
		retry: "never",
		en: "The access token has expired. Get a new one, and check the clock of the machine that made it.",
		ko: "접근 토큰이 만료되었습니다. 새 토큰을 받고, 토큰을 만든 서버의 시계를 확인하세요.",
	},
	token_not_yet_valid: {
		retry: "later",
		en: "The access token is not valid yet. Check the clock of the machine that made it.",
		ko: "접근 토큰이 아직 유효하지 않습니다. 토큰을 만든 서버의 시계를 확인하세요.",
	},
	token_foreign: {
		retry: "never",
		en: "The access token belongs to a project or secret that this server does not know.",
		ko: "이 서버가 모르는 프로젝트나 비밀 키의 토큰입니다.",
	},
	token_channel: {
		retry: "never",
		en: "The access token is for another channel.",
		ko: "다른 채널의 접근 토큰입니다.",
	},
	key_unknown: {
		retry: "never",
		en: "The key is not known.",
		ko: "등록되지 않은 키입니다.",
	},
	key_wrong_kind: {
		retry: "never",
		en: "A server key must not be used in a browser, nor a browser key on the REST API.",
		ko: "서버 키는 브라우저에서, 브라우저 키는 REST API에서 쓸 수 없습니다.",
	},
	key_development_only: {
		retry: "never",
		en: "The sandbox key works in development mode only. Make a project and a key of its own.",
		ko: "샌드박스 키는 개발 모드에서만 쓸 수 있습니다. 프로젝트와 키를 만들어 주세요.",
	},
	key_needs_token: {
		retry: "never",
		en: "This project admits peers with an access token only.",
		ko: "이 프로젝트는 접근 토큰이 있어야 참가할 수 있습니다.",
	},
	origin_forbidden: {
		retry: "never",
		en: "The page's origin is not on the key's list.",
		ko: "이 웹 페이지의 주소는 키의 허용 목록에 없습니다.",
	},
	address_forbidden: {
		retry: "never",
		en: "The address is not on the key's list.",
		ko: "이 IP 주소는 키의 허용 목록에 없습니다.",
	},
	project_off: {
		retry: "never",
		en: "The project is switched off.",
		ko: "프로젝트가 꺼져 있습니다.",
	},
	playrtc_off: {
		retry: "never",
		en: "The project does not accept PlayRTC clients. Its operator can switch them on.",
		ko: "이 프로젝트는 PlayRTC 클라이언트를 받지 않습니다. 운영자가 켤 수 있습니다.",
	},
	forbidden: {
		retry: "never",
		en: "The role or the token does not allow this.",
		ko: "역할이나 토큰이 허용하지 않는 동작입니다.",
	},
	not_found: {
		retry: "never",
		en: "There is no such thing here.",
		ko: "요청한 대상이 없습니다.",
	},
	conflict: {
		retry: "never",
		en: "It exists already, or has changed meanwhile.",
		ko: "이미 있거나 그 사이에 바뀌었습니다.",
	},
	method_not_allowed: {
		retry: "never",
		en: "This address does not take this method.",
		ko: "이 주소에서 쓸 수 없는 메서드입니다.",
	},
	idempotency_conflict: {
		retry: "never",
		en: "The idempotency key was used for another request.",
		ko: "멱등 키가 다른 요청에 이미 쓰였습니다.",
	},
	channel_not_found: {
		retry: "never",
		en: "There is no such channel.",
		ko: "없는 채널입니다.",
	},
	channel_full: {
		retry: "later",
		en: "The channel is full.",
		ko: "채널의 정원이 찼습니다.",
	},
	channel_locked: {
		retry: "later",
		en: "The channel is locked.",
		ko: "채널이 잠겨 있습니다.",
	},
	channel_closed: {
		retry: "never",
		en: "The channel was closed.",
		ko: "채널이 닫혔습니다.",
	},
	peer_not_found: {
		retry: "never",
		en: "There is no such peer in the channel.",
		ko: "채널에 없는 상대입니다.",
	},
	not_admitted: {
		retry: "never",
		en: "The members have not answered yet.",
		ko: "아직 참가가 승인되지 않았습니다.",
	},
	kicked: {
		retry: "later",
		en: "A host has removed this peer from the channel.",
		ko: "진행자가 채널에서 내보냈습니다.",
	},
	rejected: {
		retry: "never",
		en: "The members have declined.",
		ko: "상대가 거절했습니다.",
	},
	busy: {
		retry: "later",
		en: "The members are busy.",
		ko: "상대가 통화 중입니다.",
	},
	ring_timeout: {
		retry: "later",
		en: "Nobody answered.",
		ko: "응답이 없습니다.",
	},
	left: {
		retry: "never",
		en: "The peer has left.",
		ko: "채널에서 나왔습니다.",
	},
	done: {
		retry: "never",
		en: "Everything has arrived.",
		ko: "모두 받았습니다.",
	},
	cancelled: {
		retry: "never",
		en: "The transfer was cancelled.",
		ko: "전송이 취소되었습니다.",
	},
	declined: {
		retry: "never",
		en: "The receiver declined the files.",
		ko: "받는 쪽에서 파일을 거절했습니다.",
	},
	not_accepted: {
		retry: "never",
		en: "The files were not accepted before they were asked for.",
		ko: "파일을 수락하기 전에 요청했습니다.",
	},
	transfer_taken: {
		retry: "never",
		en: "This link was for one receiver, and somebody has used it already. Ask the sender for a new one.",
		ko: "한 사람만 쓸 수 있는 링크이고 이미 사용되었습니다. 보내는 사람에게 새 링크를 요청하세요.",
	},
	not_authentic: {
		retry: "never",
		en: "The other side does not know the secret of the link: somebody in between may be lying, or the link is damaged.",
		ko: "상대가 링크의 비밀 값을 모릅니다. 중간에서 누군가 속이고 있거나 링크가 손상되었을 수 있습니다.",
	},
	code_wrong: {
		retry: "never",
		en: "The words of the code are wrong.",
		ko: "코드의 단어가 틀렸습니다.",
	},
	code_spent: {
		retry: "never",
		en: "The code is used up. Ask the sender for a new one.",
		ko: "더 이상 쓸 수 없는 코드입니다. 보내는 사람에게 새 코드를 요청하세요.",
	},
	depot_off: {
		retry: "never",
		en: "This server keeps no files for later. Its operator can allow it for the project.",
		ko: "이 서버는 파일을 보관하지 않습니다. 운영자가 프로젝트에 허용할 수 있습니다.",
	},
	depot_full: {
		retry: "later",
		en: "The server has no room left for this transfer: the project's quota for kept files is used up.",
		ko: "서버에 이 전송을 보관할 공간이 없습니다. 프로젝트의 파일 보관 할당량을 모두 사용했습니다.",
	},
	depot_disk_full: {
		retry: "later",
		en: "The server's disk is full: it cannot keep the files now.",
		ko: "서버의 디스크가 가득 차서 지금은 파일을 보관할 수 없습니다.",
	},
	depot_unknown: {
		retry: "never",
		en: "Nothing of this transfer waits on the server.",
		ko: "이 전송에서 서버에 보관된 것이 없습니다.",
	},
	depot_token: {
		retry: "never",
		en: "This token does not open what waits on the server for this transfer.",
		ko: "이 토큰으로는 서버에 보관된 전송을 열 수 없습니다.",
	},
	depot_expired: {
		retry: "never",
		en: "The server has kept the files as long as it may, and has removed them. Ask the sender to send them again.",
		ko: "보관 기간이 지나 서버에서 파일이 삭제되었습니다. 보내는 사람에게 다시 보내 달라고 하세요.",
	},
	source_changed: {
		retry: "never",
		en: "The file was changed while it was being sent.",
		ko: "보내는 동안 파일이 바뀌었습니다.",
	},
	source_unreadable: {
		retry: "never",
		en: "The sender cannot read the file.",
		ko: "보내는 쪽에서 파일을 읽을 수 없습니다.",
	},
	too_large: {
		retry: "never",
		en: "A transfer carries at most 16 TiB in a file, 64 TiB in all, and a million files.",
		ko: "한 번에 보낼 수 있는 크기는 파일당 16TiB, 모두 64TiB이고, 파일은 백만 개까지입니다.",
	},
	corrupt: {
		retry: "later",
		en: "What arrived is not what was sent.",
		ko: "받은 내용이 보낸 내용과 다릅니다.",
	},
	path_unsafe: {
		retry: "never",
		en: "A file name would lead out of the folder. Nothing was written.",
		ko: "파일 이름이 폴더 밖을 가리킵니다. 아무것도 저장하지 않았습니다.",
	},
	disk_full: {
		retry: "later",
		en: "The disk is full. Make room and try again: what has arrived is kept.",
		ko: "디스크 공간이 부족합니다. 공간을 확보한 뒤 다시 시도하세요. 이미 받은 부분은 남아 있습니다.",
	},
	folder_unwritable: {
		retry: "never",
		en: "The receiver's folder cannot be written to.",
		ko: "받는 쪽 폴더에 쓸 수 없습니다.",
	},
	credit_exceeded: {
		retry: "never",
		en: "More was asked for than the sender keeps in mind.",
		ko: "보내는 쪽이 처리할 수 있는 것보다 많이 요청했습니다.",
	},
	no_path: {
		retry: "later",
		en: "No connection to the other side came about.",
		ko: "상대와 연결하지 못했습니다.",
	},
	rate_limited: {
		retry: "later",
		en: "Too many requests.",
		ko: "요청이 너무 많습니다.",
	},
	quota_exceeded: {
		retry: "later",
		en: "The project's quota is used up.",
		ko: "프로젝트의 사용 한도를 넘었습니다.",
	},
	mailbox_full: {
		retry: "join",
		en: "Too many messages were not acknowledged.",
		ko: "확인되지 않은 메시지가 너무 많이 쌓였습니다.",
	},
	slow_client: {
		retry: "resume",
		en: "The client reads too slowly.",
		ko: "메시지를 받는 속도가 너무 느립니다.",
	},
	replaced: {
		retry: "never",
		en: "A newer link of the same session has taken over.",
		ko: "같은 세션의 새 연결로 대체되었습니다.",
	},
	resume_unknown: {
		retry: "join",
		en: "The session is not known (any more).",
		ko: "더 이상 이어갈 수 없는 세션입니다.",
	},
	link_unknown: {
		retry: "resume",
		en: "The link is not known (any more).",
		ko: "더 이상 유효하지 않은 연결입니다.",
	},
	server_draining: {
		retry: "resume",
		en: "The server is about to stop.",
		ko: "서버가 곧 종료됩니다.",
	},
	not_running: {
		retry: "later",
		en: "No server is running on this data directory.",
		ko: "이 데이터 디렉터리에서 실행 중인 서버가 없습니다.",
	},
	storage: {
		retry: "later",
		en: "The server cannot write its data. Look at its disk.",
		ko: "서버가 데이터를 쓸 수 없습니다. 디스크를 확인하세요.",
	},
	internal: {
		retry: "later",
		en: "Something went wrong in the server. Its log says more.",
		ko: "서버에 문제가 생겼습니다. 서버 로그를 확인하세요.",
	},
} as const satisfies Record<string, { retry: Retry; en: string; ko: string }>;

export type ServerCode = keyof typeof codes;
