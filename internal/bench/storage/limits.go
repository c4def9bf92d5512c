package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"
)

// Limit is how fast this machine can do what a verified, encrypted backup
// cannot do without, on blocks in memory.
type Limit struct {
	What      string  `json:"what"`
	BlockSize int     `json:"block_bytes"`
	OneCore   float64 `json:"one_core_bytes_per_second"`
	AllCores  float64 `json:"all_cores_bytes_per_second"`
}

// limits measures hash and cipher, each for about a second.
func limits() ([]Limit, error) {
	var out []Limit
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
		hash := func() (func(), error) {
			b := make([]byte, size)
			return func() { sha256.Sum256(b) }, nil
		}
		seal := func() (func(), error) {
			key := make([]byte, 32)
			if _, err := rand.Read(key); err != nil {
				return nil, err
			}
			block, err := aes.NewCipher(key)
			if err != nil {
				return nil, err
			}
			gcm, err := cipher.NewGCM(block)
			if err != nil {
				return nil, err
			}
			from, to, nonce := make([]byte, size), make([]byte, 0, size+gcm.Overhead()), make([]byte, gcm.NonceSize())
			return func() { gcm.Seal(to, nonce, from, nil) }, nil
		}
		for _, k := range []struct {
			what string
			make func() (func(), error)
		}{{"SHA-256", hash}, {"AES-256-GCM", seal}} {
			l := Limit{What: k.what, BlockSize: size}
			var err error
			if l.OneCore, err = speed(1, size, k.make); err != nil {
				return nil, err
			}
			if l.AllCores, err = speed(runtime.NumCPU(), size, k.make); err != nil {
				return nil, err
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// speed has each of some goroutines do its own work again and again, and
// returns the bytes a second of all: the best of some windows, for whatever else
// the machine does can only make it slower.
func speed(goroutines, size int, newWork func() (func(), error)) (float64, error) {
	work := make([]func(), goroutines)
	for i := range work {
		var err error
		if work[i], err = newWork(); err != nil {
			return 0, err
		}
	}
	var best float64
	for range 5 {
		var wg sync.WaitGroup
		done := make([]float64, goroutines)
		for i, w := range work {
			wg.Go(func() { done[i] = window(w) * float64(size) })
		}
		wg.Wait()
		var sum float64
		for _, d := range done {
			sum += d
		}
		best = max(best, sum)
	}
	return best, nil
}

// window returns how often a second the work gets done, in a fifth of one.
func window(work func()) float64 {
	begun, n := time.Now(), 0
	for time.Since(begun) < time.Second/5 {
		work()
		n++
	}
	return float64(n) / time.Since(begun).Seconds()
}
