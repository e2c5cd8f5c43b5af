// What the build makes of a text file that is imported with `?raw`.
declare module "*?raw" {
	const text: string;
	export default text;
}
