package doctor

import (
	"os"
	"strings"
	"testing"
)

func TestSmallSocketBuffersAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, rmem, wmem string
		want             Status
		says             string
	}{
		{"as Linux has it", "212992", "212992", Warn, "rmem_max is 208 KiB"},
		{"one of both", "4194304", "212992", Warn, "wmem_max is 208 KiB"},
		{"enough", "4194304", "8388608", OK, "4096 KiB"},
		{"not a number", "many", "8388608", Skip, "rmem_max"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := checkBuffers(write(t, map[string]string{"rmem_max": c.rmem, "wmem_max": c.wmem}))
			if r.Status != c.want || !strings.Contains(r.Message.En, c.says) || (c.want == Warn) != strings.Contains(r.Hint.En, "net.core.rmem_max=4194304") {
				t.Errorf("got %+v, want %s with %q", r, c.want, c.says)
			}
		})
	}
	if r := checkBuffers(t.TempDir()); r.Status != Skip {
		t.Errorf("without the files: got %+v, want a skip", r)
	}
}

func TestTheFileLimitIsThatOfTheProcess(t *testing.T) {
	if n, err := fileLimit(os.Getpid()); err != nil || n == 0 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := fileLimit(1 << 30); err == nil {
		t.Error("a process that does not exist has a limit")
	}
}
