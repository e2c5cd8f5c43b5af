package transfer

import (
	"strings"
	"testing"
)

// Who answers in the sender's place may try one guess of the words: the tag in step 3 says whether it was right.
func TestAReceiverAnswersOneGuess(t *testing.T) {
	code := Code{"417", "maple-otter"}
	x, first := code.redeem()
	guess := func(words string) codeMessage {
		t.Helper()
		_, second, err := Code{code.Number, words}.answer(first)
		if err != nil {
			t.Fatal(err)
		}
		return second
	}
	if third, err := x.confirm(guess("wrong-words")); err != nil || third.Step != 3 {
		t.Fatalf("the first step 2 is answered with %+v, %v", third, err)
	}
	if third, err := x.confirm(guess("maple-otter")); err == nil || third.Confirm != "" {
		t.Errorf("a second step 2 is answered with %+v, %v", third, err)
	}
	y, _ := code.redeem()
	if _, err := y.confirm(codeMessage{Step: 2, Y: strings.Repeat("A", 43)}); err == nil {
		t.Error("the identity was taken for a share")
	}
}
