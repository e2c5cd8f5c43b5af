// The little of Node that the tests use; the sources themselves must not see any of it.
declare const process: {
	readonly env: Readonly<Record<string, string | undefined>>;
	on(event: "unhandledRejection", listener: (reason: unknown) => void): void;
	off(event: "unhandledRejection", listener: (reason: unknown) => void): void;
};
