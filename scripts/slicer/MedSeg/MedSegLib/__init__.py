"""What the MedSeg module does, apart from its widget: no Qt, no torch, no medseg package.

`medseg` is another program, in a Python of its own. Here it is found, started, watched, cancelled and its results
loaded. Needs the standard library, numpy and vtk as Slicer brings them, and the MRML scene that it is handed.

    executable, environment   which command to start, and with which variables
    command, bundles          its arguments, and the models it knows
    source                    a volume node -> the file or folder that medseg reads
    process, progress         the running command: lines as they come, cancel
    outcome                   exit code and output -> the files of a result, or an error with its mend
    load, views               files -> nodes; what the slice views show
    logic                     all of it in order
"""
