//go:build !linux

package doctor

import "context"

func (e *examination) checkMachine(context.Context) []Result {
	return []Result{subject{id: "machine"}.skip("buffers, file limit and disk are looked at on Linux only", "버퍼, 파일 한도, 디스크는 리눅스에서만 검사합니다")}
}
