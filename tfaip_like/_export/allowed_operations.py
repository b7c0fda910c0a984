"""TensorFlow operations that an export may contain, grouped by purpose.

All of them map tensors to tensors, or keep state in memory. None of them opens a file, a socket or a database, starts a
process, prints, or calls Python. Operations that are not listed are rejected, and so are those of future versions of
TensorFlow until they are reviewed.
"""

from __future__ import annotations

OPERATION_GROUPS: dict[str, str] = {
    "graph structure: constants, arguments, calls of other functions (which are checked as well)": """
        Const Placeholder PlaceholderWithDefault Identity IdentityN NoOp StopGradient PreventGradient Snapshot
        EnsureShape FakeParam PartitionedCall StatefulPartitionedCall ControlTrigger DeepCopy
    """,
    "control flow: tf.cond, tf.while_loop, RNNs, in their current and legacy forms": """
        If StatelessIf Case StatelessCase While StatelessWhile Switch Merge Enter Exit NextIteration LoopCond
        DeviceIndex
    """,
    "assertions, which fail a prediction with an error": """
        Assert CheckNumerics CheckNumericsV2
    """,
    "variables in memory: weights, seeds, statistics, counters": """
        VarHandleOp ReadVariableOp VarIsInitializedOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp
        VariableShape DisableCopyOnRead DestroyResourceOp ResourceGather ResourceGatherNd ResourceScatterAdd
        ResourceScatterSub ResourceScatterMul ResourceScatterDiv ResourceScatterMin ResourceScatterMax
        ResourceScatterUpdate ResourceScatterNdAdd ResourceScatterNdSub ResourceScatterNdUpdate
        ResourceScatterNdMin ResourceScatterNdMax ResourceStridedSliceAssign
    """,
    "shapes and types": """
        Shape ShapeN Size Rank Reshape Squeeze ExpandDims BroadcastTo BroadcastArgs BroadcastGradientArgs Cast Bitcast
        InvertPermutation UnravelIndex ToBool
    """,
    "arrays: splitting, concatenation, padding, indexing": """
        Concat ConcatV2 ConcatOffset Pack Unpack ParallelConcat Split SplitV Slice StridedSlice StridedSliceGrad
        TensorStridedSliceUpdate Gather GatherV2 GatherNd ScatterNd TensorScatterUpdate TensorScatterAdd
        TensorScatterSub TensorScatterMin TensorScatterMax ScatterNdNonAliasingAdd DynamicPartition DynamicStitch
        ParallelDynamicStitch Pad PadV2 MirrorPad MirrorPadGrad Tile TileGrad Transpose ConjugateTranspose Reverse
        ReverseV2 ReverseSequence Roll Where Select SelectV2 Fill Empty ZerosLike OnesLike Range LinSpace OneHot
        Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 ListDiff TopK TopKV2 ApproxTopK InTopK InTopKV2 NthElement
        LowerBound UpperBound Bucketize Bincount DenseBincount HistogramFixedWidth SpaceToBatch SpaceToBatchND
        BatchToSpace BatchToSpaceND SpaceToDepth DepthToSpace Diag DiagPart MatrixDiag MatrixDiagV2 MatrixDiagV3
        MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixBandPart
        BatchMatrixBandPart BatchMatrixDiag BatchMatrixDiagPart BatchMatrixSetDiag InplaceAdd InplaceSub
        InplaceUpdate DataFormatDimMap DataFormatVecPermute
    """,
    "arithmetic, comparisons, logic, bits": """
        Abs Add AddV2 AddN AccumulateNV2 Sub Mul MulNoNan Div RealDiv DivNoNan FloorDiv TruncateDiv FloorMod TruncateMod
        Mod Pow Neg Sign Inv InvGrad Reciprocal ReciprocalGrad Square SquaredDifference Sqrt SqrtGrad Rsqrt RsqrtGrad
        Exp Expm1 Log Log1p Xlogy Xlog1py Xdivy Ceil Floor Round Rint Maximum Minimum ClipByValue NextAfter
        Equal NotEqual ApproximateEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot
        IsFinite IsInf IsNan BitwiseAnd BitwiseOr BitwiseXor Invert LeftShift RightShift PopulationCount
        Complex ComplexAbs Real Imag Conj Angle
    """,
    "mathematical functions": """
        Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh TanhGrad Asinh Acosh Atanh Sigmoid SigmoidGrad Erf Erfc Erfinv
        Ndtri Lgamma Digamma Polygamma Zeta Igamma Igammac IgammaGradA Betainc Dawsn Expint FresnelCos FresnelSin Spence
        BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1
        Cross Cumsum Cumprod CumulativeLogsumexp
    """,
    "reductions and segments": """
        Sum Prod Mean Max Min All Any ArgMax ArgMin EuclideanNorm SegmentSum SegmentSumV2 SegmentMean SegmentProd
        SegmentProdV2 SegmentMax SegmentMaxV2 SegmentMin SegmentMinV2 UnsortedSegmentSum UnsortedSegmentProd
        UnsortedSegmentMax UnsortedSegmentMin
    """,
    "linear algebra": """
        MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Cholesky CholeskyGrad Qr Svd Lu Eig SelfAdjointEig
        SelfAdjointEigV2 MatrixInverse MatrixDeterminant LogMatrixDeterminant MatrixSolve MatrixSolveLs
        MatrixTriangularSolve MatrixExponential MatrixLogarithm MatrixSquareRoot BandedTriangularSolve TridiagonalMatMul
        TridiagonalSolve BatchCholesky BatchCholeskyGrad BatchMatrixDeterminant BatchMatrixInverse BatchMatrixSolve
        BatchMatrixSolveLs BatchMatrixTriangularSolve BatchSelfAdjointEig BatchSelfAdjointEigV2 BatchSvd
    """,
    "layers: convolution, pooling, normalisation, activation, losses, and their gradients": """
        BiasAdd BiasAddV1 BiasAddGrad Conv Conv2D Conv2DBackpropInput Conv2DBackpropInputV2 Conv2DBackpropFilter
        Conv2DBackpropFilterV2 Conv3D Conv3DBackpropInput Conv3DBackpropInputV2 Conv3DBackpropFilter
        Conv3DBackpropFilterV2 DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput
        DepthwiseConv2dNativeBackpropFilter Dilation2D Dilation2DBackpropInput Dilation2DBackpropFilter FusedPadConv2D
        FusedResizeAndPadConv2D AvgPool AvgPoolGrad AvgPool3D AvgPool3DGrad MaxPool MaxPoolV2 MaxPoolGrad MaxPoolGradV2
        MaxPoolGradGrad MaxPoolGradGradV2 MaxPool3D MaxPool3DGrad MaxPool3DGradGrad MaxPoolWithArgmax
        MaxPoolGradWithArgmax MaxPoolGradGradWithArgmax FractionalAvgPool FractionalAvgPoolGrad FractionalMaxPool
        FractionalMaxPoolGrad FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedBatchNormGrad FusedBatchNormGradV2
        FusedBatchNormGradV3 BatchNormWithGlobalNormalization BatchNormWithGlobalNormalizationGrad LRN LRNGrad L2Loss
        Relu ReluGrad Relu6 Relu6Grad LeakyRelu LeakyReluGrad Elu EluGrad Selu SeluGrad Softplus SoftplusGrad
        Softsign SoftsignGrad Softmax LogSoftmax SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits
        CTCLoss CTCLossV2 CTCGreedyDecoder CTCBeamSearchDecoder EditDistance
    """,
    "recurrent layers: cells, GPU kernels, and tensor lists of loops": """
        LSTMBlockCell LSTMBlockCellGrad BlockLSTM BlockLSTMV2 BlockLSTMGrad BlockLSTMGradV2 GRUBlockCell
        GRUBlockCellGrad CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
        CudnnRNNParamsSize CudnnRNNParamsToCanonical CudnnRNNParamsToCanonicalV2 CudnnRNNCanonicalToParams
        CudnnRNNCanonicalToParamsV2 EmptyTensorList TensorListConcat TensorListConcatV2 TensorListConcatLists
        TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
        TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve TensorListResize
        TensorListScatter TensorListScatterV2 TensorListScatterIntoExistingList TensorListSetItem TensorListSplit
        TensorListStack EmptyTensorMap TensorMapErase TensorMapHasKey TensorMapInsert TensorMapLookup TensorMapSize
        TensorMapStackKeys TensorArrayV3 TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3
        TensorArrayGradWithShape TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3
        TensorArrayWriteV3 OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone
    """,
    "random numbers: dropout, noise, augmentation": """
        RandomUniform RandomUniformInt RandomStandardNormal TruncatedNormal ParameterizedTruncatedNormal RandomGamma
        RandomGammaGrad RandomPoisson RandomPoissonV2 RandomShuffle Multinomial RandomIndexShuffle NonDeterministicInts
        StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
        StatefulUniformInt StatefulRandomBinomial RngReadAndSkip RngSkip StatelessMultinomial
        StatelessParameterizedTruncatedNormal StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGammaV3
        StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
        StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform StatelessRandomUniformV2
        StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
        StatelessRandomUniformIntV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2 SobolSample
        StatelessSampleDistortedBoundingBox SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 RandomCrop
        AllCandidateSampler LearnedUnigramCandidateSampler LogUniformCandidateSampler UniformCandidateSampler
        ThreadUnsafeUnigramCandidateSampler ComputeAccidentalHits
    """,
    "image tensors, and decoding of images and audio inputs": """
        ResizeArea ResizeBicubic ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
        ResizeNearestNeighborGrad ScaleAndTranslate ScaleAndTranslateGrad ImageProjectiveTransformV2
        ImageProjectiveTransformV3 CropAndResize CropAndResizeGradBoxes CropAndResizeGradImage ExtractGlimpse
        ExtractGlimpseV2 ExtractImagePatches ExtractVolumePatches AdjustContrast AdjustContrastv2 AdjustHue
        AdjustSaturation RGBToHSV HSVToRGB DrawBoundingBoxes DrawBoundingBoxesV2 NonMaxSuppression NonMaxSuppressionV2
        NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NonMaxSuppressionWithOverlaps
        CombinedNonMaxSuppression GenerateBoundingBoxProposals DecodePng DecodeJpeg DecodeAndCropJpeg DecodeBmp
        DecodeGif DecodeImage DecodeWav DecodeRaw DecodePaddedRaw
    """,
    "Fourier transforms and audio": """
        FFT FFT2D FFT3D FFTND IFFT IFFT2D IFFT3D IFFTND RFFT RFFT2D RFFT3D RFFTND IRFFT IRFFT2D IRFFT3D IRFFTND BatchFFT
        BatchFFT2D BatchFFT3D BatchIFFT BatchIFFT2D BatchIFFT3D AudioSpectrogram Mfcc
    """,
    "strings: TextVectorization, StringLookup, Hashing": """
        AsString DecodeBase64 EncodeBase64 ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch
        StaticRegexReplace StringFormat StringJoin StringLength StringLower StringUpper StringNGrams StringSplit
        StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber
        Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode UnsortedSegmentJoin
        Fingerprint
    """,
    "tables in memory; for those that are read from a file see `graph_inspection`": """
        HashTableV2 AnonymousHashTable MutableHashTableV2 MutableHashTableOfTensorsV2 MutableDenseHashTableV2
        AnonymousMutableHashTable AnonymousMutableHashTableOfTensors AnonymousMutableDenseHashTable InitializeTableV2
        LookupTableFindV2 LookupTableSizeV2 LookupTableInsertV2 LookupTableRemoveV2 LookupTableExportV2
        LookupTableImportV2
    """,
    "sparse and ragged tensors, sets": """
        SparseAdd SparseAddGrad SparseBincount SparseConcat SparseCross SparseCrossV2 SparseCrossHashed
        SparseDenseCwiseAdd SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseFillEmptyRowsGrad
        SparseMatMul SparseReduceMax SparseReduceMaxSparse SparseReduceSum SparseReduceSumSparse SparseReorder
        SparseReshape SparseSegmentMean SparseSegmentMeanGrad SparseSegmentMeanGradV2 SparseSegmentMeanWithNumSegments
        SparseSegmentSqrtN SparseSegmentSqrtNGrad SparseSegmentSqrtNGradV2 SparseSegmentSqrtNWithNumSegments
        SparseSegmentSum SparseSegmentSumGrad SparseSegmentSumGradV2 SparseSegmentSumWithNumSegments SparseSlice
        SparseSliceGrad SparseSoftmax SparseSparseMaximum SparseSparseMinimum SparseSplit SparseTensorDenseAdd
        SparseTensorDenseMatMul SparseToDense SparseToSparseSetOperation DenseToDenseSetOperation
        DenseToSparseSetOperation SetSize DenseCountSparseOutput SparseCountSparseOutput RaggedCountSparseOutput
        RaggedBincount RaggedCross RaggedFillEmptyRows RaggedFillEmptyRowsGrad RaggedGather RaggedRange
        RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
        RaggedTensorToVariantGradient CompositeTensorVariantFromComponents CompositeTensorVariantToComponents
        CSRSparseMatrixComponents CSRSparseMatrixToDense CSRSparseMatrixToSparseTensor DenseToCSRSparseMatrix
        SparseMatrixAdd SparseMatrixMatMul SparseMatrixMul SparseMatrixNNZ SparseMatrixSoftmax SparseMatrixSoftmaxGrad
        SparseMatrixSparseMatMul SparseMatrixTranspose SparseMatrixZeros SparseTensorToCSRSparseMatrix
    """,
    "quantised networks": """
        FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsGradient
        FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient QuantizeAndDequantize
        QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeAndDequantizeV4Grad QuantizeV2
        Dequantize
    """,
    "XLA: called by Keras on TensorFlow and by exports of JAX (see `graph_inspection` for XlaCallModule)": """
        XlaBroadcastHelper XlaConv XlaConvV2 XlaDot XlaDotV2 XlaDynamicSlice XlaDynamicUpdateSlice XlaEinsum XlaGather
        XlaIf XlaKeyValueSort XlaOptimizationBarrier XlaPad XlaReduce XlaReducePrecision XlaReduceWindow
        XlaRemoveDynamicDimensionSize XlaRngBitGenerator XlaScatter XlaSelectAndScatter XlaSelfAdjointEig XlaSetBound
        XlaSetDynamicDimensionSize XlaSharding XlaSort XlaSpmdFullToShardShape XlaSpmdShardToFullShape XlaSvd
        XlaVariadicReduce XlaVariadicReduceV2 XlaVariadicSort XlaWhile
    """,
}
"""Names of the operations by purpose."""

ALLOWED_OPERATIONS = frozenset(name for names in OPERATION_GROUPS.values() for name in names.split())
