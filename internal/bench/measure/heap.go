package measure

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// LiveHeap returns how many bytes of a server's heap were in use when it last collected garbage, from the metrics that it shows to programs on its own machine; 0 if it does not.
func LiveHeap(ctx context.Context, base string) int64 {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return 0
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return liveHeap(res.Body)
}

// liveHeap reads it in the text format of Prometheus.
func liveHeap(metrics io.Reader) int64 {
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_gc_heap_live_bytes "); ok {
			bytes, _ := strconv.ParseFloat(value, 64)
			return int64(bytes)
		}
	}
	return 0
}
