# What nodes.yaml says of the lab's machines, checked before Vagrant does anything with it.

require "fileutils"
require "ipaddr"
require "json"
require "openssl"
require "yaml"

class Site
  # A mistake in nodes.yaml, told in a sentence.
  class Mistake < Vagrant::Errors::VagrantError
    def initialize(file, sentence)
      super()
      @told = "#{file}: #{sentence}"
    end

    def message
      @told
    end
  end

  Machine = Struct.new(:name, :address, :memory, :cpus, :number, keyword_init: true) do
    def management?
      number.zero?
    end
  end

  PROVIDERS = %w[libvirt virtualbox lxc].freeze
  KEYS = {
    nil => %w[provider box networks management nodes libvirt lxc],
    "networks" => PROVIDERS,
    "management" => %w[memory cpus],
    "nodes" => %w[count memory cpus osd_disk],
    "libvirt" => %w[driver],
    "lxc" => %w[bridge first_loop]
  }.freeze
  MANAGEMENT = "management"
  # The last byte of the management host's address; the nodes' follow.
  FIRST = 10
  LOOPS = 8

  attr_reader :folder

  def initialize(folder)
    @folder = folder
    @file = File.expand_path(ENV.fetch("SALT_RBD_NODES", "nodes.yaml"), folder)
    @said = read
    check
  end

  def provider
    ENV.fetch("VAGRANT_DEFAULT_PROVIDER", @said["provider"])
  end

  def box
    @said["box"]
  end

  def network
    @said["networks"][provider]
  end

  def of(provider)
    @said[provider]
  end

  # The version that the states install, so that the first minion is of the same.
  def salt_version
    YAML.safe_load(File.read(File.expand_path("../pillar/salt.sls", folder))).fetch("salt_environment").fetch("version")
  end

  def nodes
    (1..@said["nodes"]["count"]).map do |number|
      Machine.new(name: "node#{number}", address: address(number), number: number, **sizes("nodes"))
    end
  end

  def management
    Machine.new(name: MANAGEMENT, address: address(0), number: 0, **sizes(MANAGEMENT))
  end

  # The management host is the last: it applies the states to all.
  def machines
    [*nodes, management]
  end

  def osd_gigabytes
    @said["nodes"]["osd_disk"]
  end

  # The disk of an OSD as the machine sees it, or its size where it has none.
  def osd
    case provider
    when "libvirt" then { device: "/dev/disk/by-id/virtio-osd" }
    when "virtualbox" then { device: "/dev/sdb" }
    else { bytes: osd_gigabytes * 2**30 }
    end
  end

  # The loop devices of this host that a container has for its own.
  def loops(machine)
    first = @said["lxc"]["first_loop"] + machine.number * LOOPS
    (first...first + LOOPS).to_a
  end

  # What the management host must know of the lab; labkit/site_pillar.py reads it.
  def facts
    JSON.pretty_generate(
      management: management.address, network: network, osd: osd, nodes: nodes.to_h { |node| [node.name, node.address] }
    )
  end

  # Where Vagrant keeps what it knows of this lab's machines.
  def state
    File.expand_path(ENV.fetch("VAGRANT_DOTFILE_PATH", ".vagrant"), folder)
  end

  # The minions' keys, until the last machine is destroyed.
  def keys
    File.join(state, "salt-rbd")
  end

  # What a machine is given: its own key, and the management host everybody's public one.
  def keys_of(machine)
    File.join(keys, machine.name)
  end

  # The folders are there already when Vagrant looks whether what it shall upload exists.
  def make_folders
    machines.each { |machine| FileUtils.mkdir_p(keys_of(machine), mode: 0o700) }
    FileUtils.chmod(0o700, keys)
  end

  # Makes the keys that are missing, and what the management host is told.
  def make_keys
    make_folders
    machines.each do |machine|
      secret = File.join(keys_of(machine), "minion.pem")
      unless File.exist?(secret)
        key = OpenSSL::PKey::RSA.new(3072)
        put(File.join(keys_of(machine), "minion.pub"), key.public_key.to_pem)
        put(secret, key.to_pem)
      end
    end
    machines.each do |machine|
      put(File.join(keys_of(management), "#{machine.name}.accepted"), File.read(File.join(keys_of(machine), "minion.pub")))
    end
    put(File.join(keys_of(management), "facts.json"), facts)
  end

  # Forgets the keys when no machine is left that knows them.
  def forget_keys
    FileUtils.rm_rf(keys) if Dir.glob(File.join(state, "machines/*/*/id")).empty?
  end

  private

  def put(path, text)
    File.write("#{path}.new", text, perm: 0o600)
    File.rename("#{path}.new", path)
  end

  def sizes(of)
    { memory: @said[of]["memory"], cpus: @said[of]["cpus"] }
  end

  def address(number)
    IPAddr.new(IPAddr.new(network).to_i + FIRST + number, Socket::AF_INET).to_s
  end

  def read
    YAML.safe_load(File.read(@file))
  rescue Errno::ENOENT
    raise Mistake.new(@file, "there is no such file.")
  rescue Psych::Exception => e
    raise Mistake.new(@file, "it is no YAML: #{e.message}.")
  end

  def mistake(sentence)
    raise Mistake.new(@file, sentence)
  end

  def check
    KEYS.each { |part, known| check_keys(part, known) }
    mistake("provider is #{provider}; it can be #{PROVIDERS.join(', ')}.") unless PROVIDERS.include?(provider)
    mistake("box is #{box.inspect}; it is a box's name.") unless box.is_a?(String)
    numbers("management", "memory", "cpus")
    numbers("nodes", "count", "memory", "cpus", "osd_disk")
    numbers("lxc", "first_loop")
    mistake("nodes:count is #{@said['nodes']['count']}; it can be 1 to 9.") unless (1..9).cover?(@said["nodes"]["count"])
    mistake("libvirt:driver is #{of('libvirt')['driver']}; it can be kvm, qemu.") unless %w[kvm qemu].include?(of("libvirt")["driver"])
    mistake("lxc:bridge is #{of('lxc')['bridge'].inspect}; it is a bridge's name.") unless of("lxc")["bridge"].is_a?(String)
    check_network
  end

  def check_keys(part, known)
    said = part ? @said[part] : @said
    where = part ? "#{part}:" : ""
    mistake("#{part || 'the file'} is no mapping.") unless said.is_a?(Hash)
    missing = known - said.keys
    more = said.keys - known
    mistake("#{where}#{missing.first} is missing.") unless missing.empty?
    mistake("#{where}#{more.first} is not known; known are #{known.join(', ')}.") unless more.empty?
  end

  def numbers(part, *names)
    names.each do |name|
      value = @said[part][name]
      mistake("#{part}:#{name} is #{value.inspect}; it is a number above 0.") unless value.is_a?(Integer) && value.positive?
    end
  end

  def check_network
    net = IPAddr.new(network)
    whole = network.end_with?(".0/24") && net.ipv4?
    mistake("networks:#{provider} is #{network}; it is an IPv4 network such as 192.168.56.0/24.") unless whole
  rescue IPAddr::Error, NoMethodError
    mistake("networks:#{provider} is #{network.inspect}; it is an IPv4 network such as 192.168.56.0/24.")
  end
end
