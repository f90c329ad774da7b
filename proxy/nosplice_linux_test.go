package proxy_test

import (
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbid makes a system call fail with errno in all threads of this process, as a container's filter does.
func forbid(number uint32, errno syscall.Errno) error {
	const load, equal, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := [...]unix.SockFilter{
		{Code: load}, // the call's number comes first
		{Code: equal, Jf: 1, K: number},
		{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, failed := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); failed != 0 {
		return failed
	}
	return nil
}

const spliceFails = "EDGE_TEST_SPLICE_FAILS"

// Where splice is not to be had, as some containers have it, long contents go through memory in both directions.
func TestContentWithoutSplice(t *testing.T) {
	fails := map[string]syscall.Errno{"EPERM": syscall.EPERM, "ENOSYS": syscall.ENOSYS, "EINVAL": syscall.EINVAL}
	first, name, child := strings.Cut(os.Getenv(spliceFails), " ")
	if !child {
		for _, first := range []string{"answer", "request"} { // the first that fails is the last that is tried
			for name := range fails {
				again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestContentWithoutSplice$", "-takeover="+strconv.FormatBool(*overTaken)) //nolint:gosec // this test
				again.Env = append(os.Environ(), spliceFails+"="+first+" "+name)
				if out, err := again.CombinedOutput(); err != nil {
					t.Errorf("%s for an %s: %v\n%s", name, first, err, out)
				}
			}
		}
		return
	}
	if err := forbid(unix.SYS_SPLICE, fails[name]); err != nil {
		t.Fatal(err)
	}
	web := client(t)
	e, u := start(t, one(provider(t, sized))), uploading(t, wide, hashing)
	for i := range 4 {
		if (i%2 == 0) == (first == "answer") {
			if got, body := call(t, web, "GET", e.url+"/up/1000000/100000", ""); got.StatusCode != http.StatusOK || body != string(random(1_000_000)) {
				t.Errorf("got %d, %d bytes", got.StatusCode, len(body))
			}
			continue
		}
		content := noise(128 << 10)
		_, answers := u.send(t, "POST", content, 1<<20)
		if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
			t.Errorf("request: got %d, or other content", got.StatusCode)
		}
	}
}
