package doctor

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// checkMachine looks at the machine that the node runs on, if that is this one.
func (e *examination) checkMachine(ctx context.Context) []Result {
	if e.cfg.Data == "" && !isHere(e.addresses.wait()) {
		return []Result{subject{id: "machine"}.skip("the node is on another machine; on its own, --data DIR looks at buffers, file limit and disk", "노드가 다른 컴퓨터에 있습니다. 노드가 있는 컴퓨터에서 --data DIR을 쓰면 버퍼, 파일 한도, 디스크를 검사합니다")}
	}
	results := []Result{checkBuffers("/proc/sys/net/core")}
	if e.cfg.Data == "" {
		return append(results, subject{id: "machine"}.skip("--data DIR looks at the node's file limit and disk too", "--data DIR을 쓰면 노드의 파일 한도와 디스크도 검사합니다"))
	}
	return append(results, checkFiles(ctx, e.cfg.Data), checkDisk(e.cfg.Data))
}

// checkBuffers compares what the system gives to a socket with what the relay asks for.
func checkBuffers(dir string) Result {
	s := subject{id: "machine.buffers"}
	least, which := 0, ""
	for _, name := range []string{"rmem_max", "wmem_max"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return s.skip("net.core.%s cannot be read", "net.core.%s을(를) 읽을 수 없습니다", name) // in a container's network namespace
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return s.skip("net.core.%s is no number", "net.core.%s이(가) 숫자가 아닙니다", name)
		}
		if which == "" || n < least {
			least, which = n, name
		}
	}
	if least < wantedBuffer {
		return s.warn("net.core.%s is %d KiB: bursts of many calls through the relay lose packets", "net.core.%s이(가) %d KiB입니다. 중계 통화가 많을 때 패킷을 잃습니다", which, least>>10).
			hint("", "sysctl -w net.core.rmem_max=%[1]d net.core.wmem_max=%[1]d, and the same in /etc/sysctl.d/madang.conf; then restart the node", "sysctl -w net.core.rmem_max=%[1]d net.core.wmem_max=%[1]d를 실행하고 /etc/sysctl.d/madang.conf에도 적은 뒤 노드를 다시 시작하십시오", wantedBuffer).
			fact("bytes", least)
	}
	return s.ok("socket buffers may have %d KiB", "소켓 버퍼를 %d KiB까지 쓸 수 있습니다", least>>10).fact("bytes", least)
}

// checkFiles reads the limit of the process that listens at the data directory's control socket.
func checkFiles(ctx context.Context, data string) Result {
	s := subject{id: "machine.files"}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	pid, err := listenerOf(ctx, filepath.Join(data, "control.sock"))
	if err != nil {
		return s.fail("no node runs on %s: %s", "%s에서 실행 중인 노드가 없습니다: %s", data, reason(err)).
			hint("data", "give the directory of the node's key data, and run this as the node's user", "노드의 data 설정과 같은 디렉터리를 지정하고, 노드와 같은 사용자로 실행하십시오")
	}
	limit, err := fileLimit(pid)
	if err != nil {
		return s.skip("the limit of process %d cannot be read: %s", "프로세스 %d의 한도를 읽을 수 없습니다: %s", pid, reason(err))
	}
	r := s.ok("the node may open %d files", "노드가 파일을 %d개까지 열 수 있습니다", limit)
	switch {
	case limit < leastFiles:
		r = s.fail("the node may open %d files only: each connection and each relay is one", "노드가 파일을 %d개까지만 열 수 있습니다. 연결과 중계마다 하나씩 씁니다", limit)
	case limit < wantedFiles:
		r = s.warn("the node may open %d files: each connection and each relay is one", "노드가 파일을 %d개까지 열 수 있습니다. 연결과 중계마다 하나씩 씁니다", limit)
	}
	if r.Status != OK {
		r = r.hint("", "LimitNOFILE=65536 in the systemd unit, or ulimit -n 65536 before the start", "systemd 유닛에 LimitNOFILE=65536을 넣거나 시작 전에 ulimit -n 65536을 실행하십시오")
	}
	return r.fact("limit", limit).fact("pid", pid)
}

// listenerOf returns the process that listens at a Unix socket (unix(7), SO_PEERCRED).
func listenerOf(ctx context.Context, path string) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return int(credentials.Pid), nil
}

// fileLimit reads the soft limit of open files of a process (proc_pid_limits(5)).
func fileLimit(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				return strconv.ParseUint(fields[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("no line about open files")
}

func checkDisk(data string) Result {
	s := subject{id: "machine.disk"}
	var fs unix.Statfs_t
	if err := unix.Statfs(data, &fs); err != nil {
		return s.fail("%s cannot be looked at: %s", "%s을(를) 살펴볼 수 없습니다: %s", data, reason(err)).hint("data", "give the directory of the node's key data", "노드의 data 설정과 같은 디렉터리를 지정하십시오")
	}
	free := fs.Bavail * uint64(fs.Bsize)
	r := s.ok("%d MiB are free for the data directory", "데이터 디렉터리에 %d MiB가 남아 있습니다", free>>20)
	switch {
	case free < leastDisk:
		r = s.fail("only %d MiB are free for the data directory: the node will soon refuse what has to be kept", "데이터 디렉터리에 %d MiB만 남았습니다. 곧 저장이 필요한 요청을 거절합니다", free>>20)
	case free < wantedDisk:
		r = s.warn("only %d MiB are free for the data directory", "데이터 디렉터리에 %d MiB만 남았습니다", free>>20)
	}
	if r.Status != OK {
		r = r.hint("data", "make room on the disk, or move the data directory to another one", "디스크를 비우거나 데이터 디렉터리를 다른 디스크로 옮기십시오")
	}
	return r.fact("freeBytes", free)
}
