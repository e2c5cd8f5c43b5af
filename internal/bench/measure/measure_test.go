package measure

import (
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := Median(c.values, func(v float64) float64 { return v }); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestQuantilesAreRightWithinTwoPercent(t *testing.T) {
	var l Lags
	for i := range 10_000 {
		l.Add(time.Duration(i+1) * 10 * time.Microsecond) // 0.01 to 100 ms
	}
	l.Add(-time.Second)
	got := l.Quantiles()
	for _, c := range []struct{ got, want float64 }{{got.P50, 50}, {got.P95, 95}, {got.P99, 99}} {
		if math.Abs(c.got-c.want) > 0.02*c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
	l.Add(math.MaxInt64) // has a bucket too
}

func TestLiveHeap(t *testing.T) {
	for metrics, want := range map[string]int64{"# HELP go_gc_heap_live_bytes x\ngo_gc_heap_live_bytes 1.5e+06\nother 1\n": 1_500_000, "other 1\n": 0, "go_gc_heap_live_bytes x": 0, "": 0} {
		if got := liveHeap(strings.NewReader(metrics)); got != want {
			t.Errorf("%q: got %d, want %d", metrics, got, want)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	before, err := Self().Usage()
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 {
		t.Errorf("RSS is %d bytes", before.RSS)
	}
	deadline := time.Now().Add(30 * time.Second)
	for after := before; after.CPU < before.CPU+3*tick; {
		for range 1_000_000 {
		}
		if after, err = Self().Usage(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("CPU time does not grow")
		}
	}
	if _, err := Process(-os.Getpid()).Usage(); err == nil {
		t.Error("a process that cannot be has a usage")
	}
}
