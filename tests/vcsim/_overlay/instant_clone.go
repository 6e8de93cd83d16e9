// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Instant clones for govmomi's simulator. Not a package of its own: the build lays this file over the vendored package
// simulator, whose unexported parts it needs.

package simulator

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// MaxDeltaDisks is how long the chain under a running source may get: one more for each clone of one that is not frozen.
const MaxDeltaDisks = 255

var (
	// IgnoreLocation lets a clone land beside its source, as VMware's guide says; the API's reference says otherwise.
	IgnoreLocation = false

	// sources are the machines that clones in the making are made of, by the clones' names.
	sources sync.Map

	// macs counts the addresses that were given: the simulator's own are out of 4096, which clones use up.
	macs atomic.Uint32
)

// Lock keeps the simulator from locking filters of its property collector: it takes a filter's lock and then a list view's
// where it waits for updates, the other way round where a list view changes, and then stands still for ever. What the
// lock guards is one flag, which is set after the view has changed and taken back before the view is read.
func (*PropertyFilter) Lock() {}

// Unlock does nothing, as Lock.
func (*PropertyFilter) Unlock() {}

// TaskContext is the call that a task was made by.
func TaskContext(t *Task) *Context { return t.ctx }

// CloneSource returns the machine that a new machine of this name is a clone of, if it is one.
func CloneSource(name string) (types.ManagedObjectReference, bool) {
	source, ok := sources.Load(name)
	if !ok {
		return types.ManagedObjectReference{}, false
	}
	return source.(types.ManagedObjectReference), true
}

// instantClone is one clone in the making: where it goes, and what it is made of.
type instantClone struct {
	source  *VirtualMachine
	name    string
	folder  *Folder
	pool    types.ManagedObjectReference
	store   *Datastore
	devices []types.BaseVirtualDevice
	config  []types.BaseOptionValue
	bios    string
}

// InstantCloneTask makes a running copy of a running machine.
func (vm *VirtualMachine) InstantCloneTask(ctx *Context, req *types.InstantClone_Task) soap.HasFault {
	task := CreateTask(vm, "instantClone", func(t *Task) (types.AnyType, types.BaseMethodFault) {
		clone, fault := vm.planInstantClone(ctx, &req.Spec)
		if fault != nil {
			return nil, fault
		}
		return clone.run(ctx, t)
	})
	return &methods.InstantClone_TaskBody{Res: &types.InstantClone_TaskResponse{Returnval: task.Run(ctx)}}
}

// InstantClone makes a clone at once, without a task: many are made fast for a test that reads many.
func (vm *VirtualMachine) InstantClone(ctx *Context, spec *types.VirtualMachineInstantCloneSpec) types.BaseMethodFault {
	var fault types.BaseMethodFault
	ctx.WithLock(vm, func() {
		var clone *instantClone
		if clone, fault = vm.planInstantClone(ctx, spec); fault == nil {
			_, fault = clone.run(ctx, &Task{ctx: ctx})
		}
	})
	return fault
}

// CheckInstantCloneTask says what an instant clone would fail of.
func (c *VmProvisioningChecker) CheckInstantCloneTask(ctx *Context, req *types.CheckInstantClone_Task) soap.HasFault {
	task := CreateTask(req.Vm, "checkInstantClone", func(*Task) (types.AnyType, types.BaseMethodFault) {
		result := types.CheckResult{Vm: &req.Vm}
		vm, ok := ctx.Map.Get(req.Vm).(*VirtualMachine)
		if !ok {
			return nil, &types.ManagedObjectNotFound{Obj: req.Vm}
		}
		ctx.WithLock(vm, func() {
			clone, fault := vm.planInstantClone(ctx, &req.Spec)
			if fault == nil {
				fault = clone.taken(ctx)
			}
			if fault != nil {
				result.Error = []types.LocalizedMethodFault{{Fault: fault, LocalizedMessage: fmt.Sprintf("%T", fault)}}
			}
		})
		return types.ArrayOfCheckResult{CheckResult: []types.CheckResult{result}}, nil
	})
	return &methods.CheckInstantClone_TaskBody{Res: &types.CheckInstantClone_TaskResponse{Returnval: task.Run(ctx)}}
}

// planInstantClone looks at everything that does not change the inventory.
func (vm *VirtualMachine) planInstantClone(
	ctx *Context, spec *types.VirtualMachineInstantCloneSpec,
) (*instantClone, types.BaseMethodFault) {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return nil, &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: vm.Runtime.PowerState,
		}
	}
	location := spec.Location
	if location.Host != nil && *location.Host != *vm.Runtime.Host {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.location.host"}
	}
	clone := &instantClone{source: vm, name: spec.Name, pool: *vm.ResourcePool, bios: spec.BiosUuid}
	clone.config = mergeOptions(vm.Config.ExtraConfig, spec.Config)
	clone.folder, _ = ctx.Map.Get(*vm.Parent).(*Folder)
	clone.store, _ = ctx.Map.Get(vm.Datastore[0]).(*Datastore)
	if !IgnoreLocation {
		if fault := clone.place(ctx, &location); fault != nil {
			return nil, fault
		}
	}
	if !vm.frozen() && vm.longestChain() >= MaxDeltaDisks {
		return nil, &types.InsufficientResourcesFault{}
	}
	return clone, clone.copyDevices(location.DeviceChange)
}

// place takes what the caller says of folder, pool and datastore.
func (c *instantClone) place(ctx *Context, location *types.VirtualMachineRelocateSpec) types.BaseMethodFault {
	ok := true
	if ref := location.Folder; ref != nil {
		if c.folder, ok = ctx.Map.Get(*ref).(*Folder); !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.location.folder"}
		}
	}
	if ref := location.Pool; ref != nil {
		if _, ok = asResourcePoolMO(ctx.Map.Get(*ref)); !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.location.pool"}
		}
		c.pool = *ref
	}
	if ref := location.Datastore; ref != nil {
		if c.store, ok = ctx.Map.Get(*ref).(*Datastore); !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.location.datastore"}
		}
	}
	return nil
}

// copyDevices takes the source's devices, less those that every machine has; disks become children of the source's.
func (c *instantClone) copyDevices(edits []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	devices := object.VirtualDeviceList(c.source.cloneDevice())
	for _, device := range devices {
		if nic, isNic := device.(types.BaseVirtualEthernetCard); isNic {
			nic.GetVirtualEthernetCard().MacAddress = ""
		}
	}
	for i, change := range edits {
		spec := change.GetVirtualDeviceConfigSpec()
		old := devices.FindByKey(spec.Device.GetVirtualDevice().Key)
		nic, isNic := spec.Device.(types.BaseVirtualEthernetCard)
		if spec.Operation != types.VirtualDeviceConfigSpecOperationEdit || old == nil || !isNic {
			return &types.InvalidDeviceSpec{DeviceIndex: int32(i)}
		}
		replaceNic(devices, old, nic)
	}
	standard := object.VirtualDeviceList(esx.VirtualDevice)
	for _, device := range devices {
		if standard.Find(devices.Name(device)) != nil {
			continue
		}
		switch d := device.(type) {
		case *types.VirtualDisk:
			if fault := c.child(d); fault != nil {
				return fault
			}
		case types.BaseVirtualEthernetCard:
			if card := d.GetVirtualEthernetCard(); card.MacAddress == "" {
				n := macs.Add(1)
				card.MacAddress = fmt.Sprintf("00:50:56:%02x:%02x:%02x", 0x80|n>>16&0x3f, n>>8&0xff, n&0xff)
			}
		}
		c.devices = append(c.devices, device)
	}
	return nil
}

// replaceNic puts an edited card in the place of the source's. What the edit leaves out stays, but for the address.
func replaceNic(devices object.VirtualDeviceList, old types.BaseVirtualDevice, edited types.BaseVirtualEthernetCard) {
	was, now := old.GetVirtualDevice(), edited.GetVirtualEthernetCard()
	if now.Backing == nil {
		now.Backing = was.Backing
	}
	if now.Connectable == nil {
		now.Connectable = was.Connectable
	}
	now.ControllerKey, now.UnitNumber, now.DeviceInfo = was.ControllerKey, was.UnitNumber, was.DeviceInfo
	for i := range devices {
		if devices[i] == old {
			devices[i] = edited.(types.BaseVirtualDevice)
		}
	}
}

// child makes a delta disk of a copied one.
func (c *instantClone) child(disk *types.VirtualDisk) types.BaseMethodFault {
	parent, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || parent.DiskMode == string(types.VirtualDiskModeIndependent_persistent) {
		// What no snapshot contains has no delta disk.
		return &types.NotSupported{}
	}
	// The simulator has no file for the deltas under a running source: the first disk that was made is there.
	for parent.Parent != nil {
		parent = parent.Parent
	}
	disk.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: fmt.Sprintf("[%s]", c.store.Name)},
		DiskMode:                     parent.DiskMode,
		ThinProvisioned:              types.NewBool(true),
		Parent:                       parent,
	}
	return nil
}

// taken says whether the clone's name is.
func (c *instantClone) taken(ctx *Context) (fault types.BaseMethodFault) {
	ctx.WithLock(c.folder, func() {
		if there := ctx.Map.FindByName(c.name, c.folder.ChildEntity); there != nil {
			fault = &types.DuplicateName{Name: c.name, Object: there.Reference()}
		}
	})
	return fault
}

// run makes the machine and lets it go.
func (c *instantClone) run(ctx *Context, task *Task) (result types.AnyType, fault types.BaseMethodFault) {
	connected := map[int32]bool{}
	for _, device := range c.devices {
		if link := device.GetVirtualDevice().Connectable; link != nil {
			connected[device.GetVirtualDevice().Key] = stays(link)
		}
	}
	ctx.WithLock(c.folder, func() {
		if fault = c.taken(ctx); fault == nil {
			// Whoever hears of the new machine learns at once what it is made of.
			sources.Store(c.name, c.source.Self)
			defer sources.Delete(c.name)
			result, fault = (&createVM{c.folder, ctx, c.request(), false}).Run(task)
		}
	})
	if fault != nil {
		return nil, fault
	}
	clone := ctx.Map.Get(result.(types.ManagedObjectReference)).(*VirtualMachine)
	c.deepenSource(ctx)
	ctx.WithLock(clone, func() { clone.resume(ctx, connected) })
	ctx.postEvent(
		&types.VmClonedEvent{VmCloneEvent: types.VmCloneEvent{VmEvent: clone.event(ctx)}, SourceVm: *c.source.event(ctx).Vm},
		&types.VmPoweredOnEvent{VmEvent: clone.event(ctx)},
	)
	return result, nil
}

// stays says whether a device is on the wire after the clone: what migrateConnect says, else what connected does.
func stays(link *types.VirtualDeviceConnectInfo) bool {
	switch link.MigrateConnect {
	case string(types.VirtualDeviceConnectInfoMigrateConnectOpConnect):
		return true
	case string(types.VirtualDeviceConnectInfoMigrateConnectOpDisconnect):
		return false
	}
	return link.Connected
}

func (c *instantClone) request() *types.CreateVM_Task {
	source := c.source.Config
	config := types.VirtualMachineConfigSpec{
		Name: c.name, Version: source.Version, GuestId: source.GuestId, Annotation: source.Annotation,
		NumCPUs: source.Hardware.NumCPU, MemoryMB: int64(source.Hardware.MemoryMB), Uuid: c.bios,
		NumCoresPerSocket: source.Hardware.NumCoresPerSocket,
		InstanceUuid:      uuid.NewString(), ExtraConfig: c.config,
		CpuHotAddEnabled: source.CpuHotAddEnabled, MemoryHotAddEnabled: source.MemoryHotAddEnabled,
		Files: &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s", c.store.Name, c.name)},
	}
	if config.Uuid == "" {
		config.Uuid = uuid.NewString()
	}
	for _, device := range c.devices {
		change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device}
		if _, isDisk := device.(*types.VirtualDisk); isDisk {
			change.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
		config.DeviceChange = append(config.DeviceChange, change)
	}
	return &types.CreateVM_Task{This: c.folder.Self, Config: config, Pool: c.pool, Host: c.source.Runtime.Host}
}

// resume lets a clone run on from where its source was.
func (vm *VirtualMachine) resume(ctx *Context, connected map[int32]bool) {
	devices := vm.cloneDevice()
	for _, device := range devices {
		d := device.GetVirtualDevice()
		if on, known := connected[d.Key]; known && d.Connectable != nil {
			d.Connectable.Connected = on
		}
	}
	on := types.VirtualMachinePowerStatePoweredOn
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.instantCloneFrozen", Val: false},
		{Name: "config.hardware.device", Val: devices},
		{Name: "summary.runtime.powerState", Val: on},
		{Name: "runtime.powerState", Val: on},
	})
	vm.updateLastModifiedAndChangeVersion(ctx)
}

func (vm *VirtualMachine) frozen() bool {
	return vm.Runtime.InstantCloneFrozen != nil && *vm.Runtime.InstantCloneFrozen
}

// deepenSource gives a source that is not frozen one delta disk more.
func (c *instantClone) deepenSource(ctx *Context) {
	vm := c.source
	if vm.frozen() {
		return
	}
	devices := vm.cloneDevice()
	for _, device := range devices {
		disk, isDisk := device.(*types.VirtualDisk)
		if !isDisk {
			continue
		}
		if old, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			delta := *old
			base := old
			for base.Parent != nil {
				base = base.Parent
			}
			stem := strings.TrimSuffix(base.FileName, ".vmdk")
			delta.FileName, delta.Parent = fmt.Sprintf("%s-%06d.vmdk", stem, chain(old)), old
			disk.Backing = &delta
		}
	}
	ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
	vm.updateDiskLayouts(ctx)
}

func (vm *VirtualMachine) longestChain() int {
	longest := 0
	for _, device := range vm.Config.Hardware.Device {
		if disk, isDisk := device.(*types.VirtualDisk); isDisk {
			if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				longest = max(longest, chain(backing))
			}
		}
	}
	return longest
}

func chain(backing *types.VirtualDiskFlatVer2BackingInfo) int {
	length := 0
	for ; backing != nil; backing = backing.Parent {
		length++
	}
	return length
}

// mergeOptions puts options over others, by key.
func mergeOptions(under, over []types.BaseOptionValue) []types.BaseOptionValue {
	var merged []types.BaseOptionValue
	named := map[string]bool{}
	for _, option := range over {
		named[option.GetOptionValue().Key] = true
	}
	for _, option := range under {
		if value := option.GetOptionValue(); !named[value.Key] {
			merged = append(merged, &types.OptionValue{Key: value.Key, Value: value.Value})
		}
	}
	return append(merged, over...)
}
