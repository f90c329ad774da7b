package plugins

import (
	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins/meter"
)

// meters are the globals that meter.Rewrite adds to a guest. The zero value is for a guest without.
type meters struct {
	flag              api.MutableGlobal
	fuel, units, room api.Global
}

func (m *meters) find(guest api.Module) {
	m.flag = guest.ExportedGlobal(meter.FlagExport).(api.MutableGlobal)
	m.fuel = guest.ExportedGlobal(meter.FuelExport)
	m.units = guest.ExportedGlobal(meter.UnitsExport)
	m.room = guest.ExportedGlobal(meter.RoomExport)
}

// strike raises the flag. It is the only thing that is written to a guest from another goroutine.
func (m *meters) strike() { m.flag.Set(1) }

// read returns how much the guest has computed, in checks. While the guest runs this is some filling of fuel late.
func (m *meters) read() uint64 {
	if m.units == nil {
		return 0
	}
	return m.units.Get() + uint64(int64(meter.Refill)-int64(int32(m.fuel.Get())))
}

// full reports whether the guest's calls within calls were too many.
func (m *meters) full() bool { return m.room != nil && int32(m.room.Get()) < 0 }
