/**
 * A word with the particle that fits its last sound: the first form after a final consonant, the second after a vowel. Words that do not
 * end in a Hangul syllable get both, as is usual in writing: `Mina을(를)`.
 */
export function josa(word: string, afterConsonant: string, afterVowel: string): string {
	const last = word.codePointAt(word.length - 1) ?? 0;
	if (last < 0xac00 || last > 0xd7a3) return `${word}${afterConsonant}(${afterVowel})`;
	return word + ((last - 0xac00) % 28 === 0 ? afterVowel : afterConsonant);
}
