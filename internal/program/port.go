package program

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// Port is a port of the loopback address that no other test takes, until it is
// given back.
type Port struct {
	Number int
	lease  *os.File
}

// LeasePort finds a free port below those that the kernel hands out, and keeps
// other tests from taking it between now and the server's own look.
func LeasePort() (*Port, error) {
	dir := filepath.Join(os.TempDir(), "colorfast-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for range 200 {
		port := 20000 + rand.IntN(12000)
		lease, ok, err := tryLock(filepath.Join(dir, strconv.Itoa(port)))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			_ = lease.Close()
			continue
		}
		return &Port{Number: port, lease: lease}, l.Close()
	}
	return nil, errors.New("find a free port: 200 tries")
}

// GiveBack lets others have the port.
func (p *Port) GiveBack() { _ = p.lease.Close() }
